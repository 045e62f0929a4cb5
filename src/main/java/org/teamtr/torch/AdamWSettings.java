package org.teamtr.torch;

/**
 * The numbers of AdamW (Loshchilov and Hutter, 2019), without the learning rate.
 *
 * @param beta1 decay of the gradient's mean
 * @param beta2 decay of its square's mean
 * @param eps added to the square's root
 * @param weightDecay decoupled from the gradient
 * @param maxGradNorm the norm that gradients are scaled down to
 */
public record AdamWSettings(double beta1, double beta2, double eps, double weightDecay, double maxGradNorm) {
}

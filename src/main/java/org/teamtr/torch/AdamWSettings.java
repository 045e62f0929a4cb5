package org.teamtr.torch;

/**
 * The hyperparameters of AdamW (Loshchilov and Hutter, 2019), without the learning rate.
 *
 * @param beta1 decay rate of the gradient's running mean
 * @param beta2 decay rate of the running mean of the gradient's square
 * @param eps added to the square root
 * @param weightDecay decoupled from the gradient
 * @param maxGradNorm gradients with a larger norm are scaled down to it
 */
public record AdamWSettings(double beta1, double beta2, double eps, double weightDecay, double maxGradNorm) {
}

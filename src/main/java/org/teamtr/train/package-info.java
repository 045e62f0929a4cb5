/**
 * The method of TeamTR (arXiv 2605.15207): stage-wise sequential fine-tuning within a token-level KL trust region.
 *
 * <p>{@link org.teamtr.train.Trainer} is Algorithm 1, top to bottom; {@link org.teamtr.train.Policy} is what it needs of a model,
 * and what the trainer of another framework implements.
 */
package org.teamtr.train;

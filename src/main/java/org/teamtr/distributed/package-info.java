/**
 * One training in several processes, called ranks: who they are, what they tell each other, how they are started on one machine.
 *
 * <p>{@link org.teamtr.distributed.Ranks} is all that a trainer needs; {@code org.teamtr.torch.TorchRanks} is the one over libtorch.
 */
package org.teamtr.distributed;

/**
 * One training in several processes, called ranks: their environment, their communication, and how they are started on one machine.
 *
 * <p>{@link org.teamtr.distributed.Ranks} is all that a trainer needs; {@code org.teamtr.torch.TorchRanks} is the one over libtorch.
 */
package org.teamtr.distributed;

/** Everything that needs libtorch: policies, and views of tensors for the kernels. Needs {@code org.bytedeco:pytorch}, which is optional. */
package org.teamtr.torch;

/**
 * Token kernels over logits, [rows, vocab], for trainers that optimise language models with a trust region, on native memory
 * that any framework may own, the CPU's or a CUDA device's. Needs JavaCPP and this library's natives, nothing else; device memory
 * of its own needs {@code org.bytedeco:cuda} ({@link org.teamtr.kernels.CudaMemory}).
 *
 * <table>
 * <caption>Kernels</caption>
 * <tr><td>{@link org.teamtr.kernels.LogProbs}</td><td>log-probs of tokens, log-normaliser, entropy; gradient</td></tr>
 * <tr><td>{@link org.teamtr.kernels.TokenKl}</td><td>exact KL(old || new) and KL(new || old); gradients</td></tr>
 * <tr><td>{@link org.teamtr.kernels.SampledKl}</td><td>k1, k2, k3 from log-probs, per token and per message</td></tr>
 * <tr><td>{@link org.teamtr.kernels.Surrogate}</td><td>the clipped objective on log-probs; gradient, statistics</td></tr>
 * <tr><td>{@link org.teamtr.kernels.PolicyLoss}</td><td>logits to loss and gradient in two sweeps</td></tr>
 * <tr><td>{@link org.teamtr.kernels.Sampling}</td><td>one token per row, with its log-prob</td></tr>
 * <tr><td>{@link org.teamtr.kernels.VocabParallel}</td><td>log-probs over a vocabulary spread over ranks</td></tr>
 * <tr><td>{@link org.teamtr.kernels.Advantages}</td><td>group-normalised clipped advantages</td></tr>
 * <tr><td>{@link org.teamtr.kernels.Decoding}</td><td>a decoder's layers for one new token of each row</td></tr>
 * </table>
 *
 * <p>Arguments are views ({@link org.teamtr.kernels.Logits}, {@link org.teamtr.kernels.Floats},
 * {@link org.teamtr.kernels.Indices}, {@link org.teamtr.kernels.Mask}) of a JavaCPP Pointer, a direct buffer, or the address of
 * another framework's tensor. Views copy nothing and keep what they view reachable. They have a
 * {@link org.teamtr.kernels.Device}, the host's memory or a CUDA device's, and a call runs where its views are, which must all be
 * on the same device. What is said about threads, and about values that are refused, holds for the CPU; Device describes the differences.
 *
 * <pre>{@code
 * FloatPointer memory = new FloatPointer(2 * 4).put(1, 2, 3, 4, 0, 0, 0, 0);
 * try (Indices targets = Indices.ofInts(3, 0); Floats logProbs = Floats.allocate(2)) {
 *     LogProbs.forward(Logits.of(memory, DType.F32, 2, 4), targets, Temperature.ONE, logProbs, null, null);
 *     System.out.println(Arrays.toString(logProbs.toArray())); // [-0.44018972, -1.3862944]
 * }
 * }</pre>
 *
 * <p>Every kernel checks every argument first and says what it expected and what it was given
 * ({@link java.lang.IllegalArgumentException}); memory that was closed in the meantime is an
 * {@link java.lang.IllegalStateException}; scratch memory that cannot be allocated is an {@link java.lang.OutOfMemoryError}; a CUDA
 * device that is missing or fails is a {@link org.teamtr.kernels.DeviceException}. After an error, except one of a device, no
 * output has been written. Calls allocate nothing on the Java heap, may be made from any number of threads, and give
 * each row the same bits in any batch at any thread count. Units are nats. See {@link org.teamtr.kernels.Backend} for settings.
 */
package org.teamtr.kernels;

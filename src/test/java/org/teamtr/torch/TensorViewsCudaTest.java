package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.cuda.CUDAStream;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch_cuda;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Temperature;

/**
 * libtorch's tensors on a GPU, in place and on its current stream. Run as CudaTest of the kernels says, with
 * {@code -Pcuda} and the cuDNN and NCCL that these natives want.
 */
@Tag("cuda")
class TensorViewsCudaTest {
    @Test
    void aStepOnLibtorchsStreams() {
        assumeTrue(torch.hasCUDA(), "libtorch's natives on the class path have no CUDA; add -Pcuda");
        try (PointerScope scope = new PointerScope()) {
            final CUDAStream before = torch_cuda.getCurrentCUDAStream((byte) 0);
            assertEquals(org.teamtr.kernels.Device.cuda(0), TensorViews.floats(torch.zeros(3).cuda()).device(), "libtorch's default stream");
            final CUDAStream other = torch_cuda.getStreamFromPool(false, (byte) 0);
            for (CUDAStream stream : new CUDAStream[] {before, other}) {
                torch_cuda.setCurrentCUDAStream(stream);
                for (ScalarType dtype : new ScalarType[] {ScalarType.Float, ScalarType.BFloat16, ScalarType.Half}) {
                    step(dtype);
                }
            }
            assertNotEquals(org.teamtr.kernels.Device.cuda(0), TensorViews.floats(torch.zeros(3).cuda()).device());
            torch_cuda.setCurrentCUDAStream(before);
        }
    }

    /** Forward between libtorch operations, gradient into a tensor, against libtorch on the CPU in float64. */
    private static void step(ScalarType dtype) {
        final Device gpu = new Device("cuda:0");
        final Tensor x = torch.randn(40, 5_001).to(gpu, dtype).mul_(new org.bytedeco.pytorch.Scalar(2)); // enqueued just before
        final Tensor targets = torch.arange(new org.bytedeco.pytorch.Scalar(40)).to(gpu, ScalarType.Long);
        final Tensor logProbs = torch.zeros(40).cuda();
        final Tensor lse = torch.zeros(40).cuda();
        final Tensor ones = torch.ones(40).cuda();
        final Tensor d = torch.zeros_like(x);
        final Logits logits = TensorViews.logits(x);
        assertEquals(0, logits.device().index());
        final Indices ids = TensorViews.indices(targets);
        LogProbs.forward(logits, ids, Temperature.ONE, TensorViews.floats(logProbs), TensorViews.floats(lse), null);
        LogProbs.backward(logits, ids, Temperature.ONE, TensorViews.floats(logProbs), TensorViews.floats(lse), null,
                TensorViews.floats(ones), null, TensorViews.logits(d));
        assertThrows(IllegalStateException.class, () -> TensorViews.floats(lse).toArray());
        final Tensor expected = torch.log_softmax(x.cpu().to(ScalarType.Double), 1);
        final Tensor given = logProbs.cpu(); // libtorch waits for the stream
        final Tensor gradient = d.cpu().to(ScalarType.Double);
        final double step = dtype == ScalarType.Float ? 1e-6 : dtype == ScalarType.Half ? 1e-3 : 8e-3;
        for (int r = 0; r < 40; r++) {
            assertEquals(expected.select(0, r).select(0, r).item_double(), given.select(0, r).item_double(), 2e-5);
            final double p = Math.exp(expected.select(0, r).select(0, 77).item_double());
            assertEquals(-p, gradient.select(0, r).select(0, 77).item_double(), step * p + 1e-7);
        }
    }
}

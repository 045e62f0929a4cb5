package org.teamtr.torch;

import org.bytedeco.cuda.cudart.CUgraphExec_st;
import org.bytedeco.cuda.cudart.CUgraph_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.cuda.CUDAStream;
import org.bytedeco.pytorch.global.torch_cuda;

/**
 * A CUDA graph: kernel launches that were recorded once and are repeated by one call, with the same addresses and sizes.
 *
 * <p>The recorded calls must not allocate: libtorch's allocator does not know of the graph, and would use its memory for other tensors.
 *
 * <p><b>This has never run on a GPU.</b> It is off unless {@code hardware.cuda_graphs} asks for it.
 */
final class CudaGraph implements AutoCloseable {
    private final CUstream_st stream;
    private final CUgraphExec_st graph = new CUgraphExec_st();

    private CudaGraph(CUstream_st stream) {
        this.stream = stream;
    }

    /**
     * Until it is closed, the current stream of this thread in libtorch is one that can be recorded, which the default stream cannot. The
     * constructor waits for all earlier work, {@code close} for the work enqueued in between.
     */
    static final class Recordable implements AutoCloseable {
        private final CUDAStream before;
        private final CUDAStream own;

        Recordable(Device device) {
            final byte index = device.has_index() ? device.index() : 0;
            torch_cuda.device_synchronize();
            before = torch_cuda.getCurrentCUDAStream(index);
            own = torch_cuda.getStreamFromPool(false, index);
            torch_cuda.setCurrentCUDAStream(own);
        }

        @Override
        public void close() {
            own.synchronize();
            torch_cuda.setCurrentCUDAStream(before);
            own.close();
            before.close();
        }
    }

    /**
     * Records the launches that {@code calls} enqueue on this thread's current stream in libtorch; they are not run.
     *
     * @throws IllegalStateException if CUDA cannot record it
     */
    static CudaGraph of(Device device, Runnable calls) {
        final CudaGraph recorded;
        try (CUDAStream current = torch_cuda.getCurrentCUDAStream(device.has_index() ? device.index() : 0)) {
            recorded = new CudaGraph(current.stream());
        }
        check("begin", cudart.cudaStreamBeginCapture(recorded.stream, cudart.cudaStreamCaptureModeThreadLocal));
        final CUgraph_st launches = new CUgraph_st();
        int end = 0;
        try {
            calls.run();
        } finally { // until recording ends, the stream cannot be used for anything else
            end = cudart.cudaStreamEndCapture(recorded.stream, launches);
        }
        check("end", end);
        try {
            check("make", cudart.cudaGraphInstantiate(recorded.graph, launches, 0));
        } finally {
            cudart.cudaGraphDestroy(launches);
        }
        return recorded;
    }

    /** Enqueues the recorded launches on their stream. */
    void launch() {
        check("launch", cudart.cudaGraphLaunch(graph, stream));
    }

    private static void check(String what, int error) {
        if (error != cudart.cudaSuccess) {
            throw new IllegalStateException("hardware.cuda_graphs: CUDA could not " + what + " the graph of a decoding step: "
                    + cudart.cudaGetErrorString(error).getString() + "; set it to false");
        }
    }

    @Override
    public void close() {
        cudart.cudaGraphExecDestroy(graph);
    }
}

package example;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.training.GradientCollector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Locale;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.Temperature;

/**
 * One step of policy optimisation on a model of DJL: DJL multiplies the logits, the kernels make the loss's gradient of them where they
 * lie, and DJL takes it back through the model.
 */
public final class DjlTraining {
    private static final int TOKENS = 32;
    private static final int HIDDEN = 48;
    private static final int VOCAB = 5_000;

    private DjlTraining() {
    }

    public static void main(String[] args) {
        try (NDManager manager = NDManager.newBaseManager("PyTorch")) {
            manager.getEngine().setRandomSeed(7);
            final NDArray hidden = manager.randomNormal(new Shape(TOKENS, HIDDEN));
            final NDArray weight = manager.randomNormal(0, 0.2f, new Shape(HIDDEN, VOCAB), DataType.FLOAT32);
            weight.setRequiresGradient(true);
            final ByteBuffer memory = ByteBuffer.allocateDirect(TOKENS * VOCAB * Float.BYTES).order(ByteOrder.nativeOrder());
            final NDArray dLogits = manager.create(memory, new Shape(TOKENS, VOCAB), DataType.FLOAT32); // an array in that memory

            try (Indices targets = Indices.allocateInts(TOKENS); // token 0 everywhere
                    Indices messages = Indices.ofInts(0, TOKENS / 2, TOKENS);
                    Floats advantages = Floats.ofFloats(1, -1);
                    Floats logProbsOld = Floats.allocate(TOKENS);
                    PolicyLoss loss = new PolicyLoss(TOKENS, false);
                    GradientCollector collector = Engine.getEngine("PyTorch").newGradientCollector()) {
                final NDArray logits = hidden.dot(weight);
                final Logits view = Logits.of(logits.toByteBuffer(true), DType.F32, TOKENS, VOCAB); // of the array's memory
                LogProbs.forward(view, targets, Temperature.ONE, logProbsOld, null, null);
                loss.forwardBackward(SurrogateConfig.PAPER, view, null, targets, Temperature.ONE, logProbsOld, advantages, messages,
                        null, null, Logits.of(memory, DType.F32, TOKENS, VOCAB));
                collector.backward(logits.mul(dLogits).sum()); // whose gradient with respect to the logits is dLogits
            }

            // The same in DJL's operations: at the old policy w = 1, so the gradient is that of the mean of -A log p.
            final NDArray ofKernels = weight.getGradient().duplicate();
            try (GradientCollector collector = Engine.getEngine("PyTorch").newGradientCollector()) {
                collector.zeroGradients();
                final NDArray logP = hidden.dot(weight).logSoftmax(1).get(":, 0");
                collector.backward(logP.get((TOKENS / 2) + ":").sum().sub(logP.get(":" + TOKENS / 2).sum()).div(2));
            }
            final NDArray ofDjl = weight.getGradient();
            final double off = ofKernels.sub(ofDjl).abs().max().getFloat() / ofDjl.abs().max().getFloat();
            System.out.printf(Locale.ROOT, "gradient of the weight: %s%n", off < 1e-5 ? "as DJL's autograd computes it" : "off by " + off);

            final boolean shared = shared(manager);
            System.out.println(shared ? "a kernel wrote into an NDArray" : "NOT the memory of the NDArray");
            System.exit(off < 1e-5 && shared ? 0 : 1);
        }
    }

    /** Whether what a kernel writes is in the array afterwards, without a copy back. */
    private static boolean shared(NDManager manager) {
        final NDArray logits = manager.ones(new Shape(1, 4));
        final NDArray logProbs = manager.zeros(new Shape(1));
        LogProbs.forward(Logits.of(logits.toByteBuffer(true), DType.F32, 1, 4), Indices.ofInts(2), Temperature.ONE,
                Floats.of(logProbs.toByteBuffer(true).order(ByteOrder.nativeOrder()).asFloatBuffer()), null, null);
        return Math.abs(logProbs.getFloat() + Math.log(4)) < 1e-6;
    }
}

package example;

import java.util.Locale;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;
import org.nd4j.linalg.ops.transforms.Transforms;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/** The kernels read and write the memory of ND4J's arrays, and what they give is compared with ND4J's own operations in fp64. */
public final class Nd4jArrays {
    private static final int ROWS = 64;
    private static final int VOCAB = 32_000;

    private Nd4jArrays() {
    }

    public static void main(String[] args) {
        Nd4j.getRandom().setSeed(7);
        final INDArray oldArray = Nd4j.randn(DataType.FLOAT, ROWS, VOCAB);
        final INDArray newArray = oldArray.add(Nd4j.randn(DataType.FLOAT, ROWS, VOCAB).muli(0.1));
        final INDArray kl = Nd4j.zeros(DataType.FLOAT, ROWS);
        final INDArray logProbs = Nd4j.zeros(DataType.FLOAT, ROWS);
        final INDArray lse = Nd4j.zeros(DataType.FLOAT, ROWS);
        final INDArray gradient = Nd4j.zeros(DataType.FLOAT, ROWS, VOCAB);
        final INDArray ones = Nd4j.ones(DataType.FLOAT, ROWS);

        TokenKl.oldNew(logits(oldArray), logits(newArray), floats(kl)); // written where kl lies
        try (Indices targets = Indices.allocateInts(ROWS)) { // token 0 everywhere
            LogProbs.forward(logits(newArray), targets, Temperature.ONE, floats(logProbs), floats(lse), null);
            LogProbs.backward(logits(newArray), targets, Temperature.ONE, floats(logProbs), floats(lse), null, floats(ones), null,
                    logits(gradient));
        }

        final INDArray p = Transforms.softmax(oldArray.castTo(DataType.DOUBLE));
        final INDArray q = Transforms.softmax(newArray.castTo(DataType.DOUBLE));
        final INDArray expectedKl = p.mul(Transforms.log(p).sub(Transforms.log(q))).sum(1);
        final INDArray expectedGradient = q.neg();
        expectedGradient.getColumn(0).addi(1);
        boolean right = close("KL(old || new)", kl, expectedKl, 1e-5);
        right &= close("log-probs", logProbs, Transforms.log(q.getColumn(0)), 1e-5);
        right &= close("gradient", gradient, expectedGradient, 1e-5);

        // A part of an array starts further on in the same memory and has the stride of the whole.
        final INDArray part = newArray.get(NDArrayIndex.interval(2, 10), NDArrayIndex.all());
        final INDArray partOld = oldArray.get(NDArrayIndex.interval(2, 10), NDArrayIndex.all());
        final INDArray partKl = Nd4j.zeros(DataType.FLOAT, 8);
        TokenKl.oldNew(logits(partOld), logits(part), floats(partKl));
        right &= close("KL of rows 2 to 9 of the arrays", partKl, kl.get(NDArrayIndex.interval(2, 10)), 0);
        System.out.println(right ? "nothing was copied" : "NOT as ND4J computes it");
        System.exit(right ? 0 : 1);
    }

    /** A matrix whose rows are contiguous: what ND4J makes in its order 'c'. */
    static Logits logits(INDArray matrix) {
        if (matrix.dataType() != DataType.FLOAT || matrix.rank() != 2 || matrix.stride(1) != 1) {
            throw new IllegalArgumentException("expected a matrix of floats in order c, given " + matrix.shapeInfoToString());
        }
        return Logits.of(memory(matrix), DType.F32, matrix.size(0), matrix.size(1), matrix.stride(0));
    }

    static Floats floats(INDArray vector) {
        if (vector.dataType() != DataType.FLOAT || vector.rank() != 1 || vector.stride(0) != 1) {
            throw new IllegalArgumentException("expected a contiguous vector of floats, given " + vector.shapeInfoToString());
        }
        return Floats.of(memory(vector), vector.length());
    }

    /** ND4J's buffers are JavaCPP Pointers. A view of an array begins at its offset. */
    private static Pointer memory(INDArray array) {
        return new FloatPointer(array.data().pointer()).position(array.offset());
    }

    private static boolean close(String what, INDArray ours, INDArray theirs, double tolerance) {
        final double off = Transforms.abs(ours.castTo(theirs.dataType()).sub(theirs.reshape(ours.shape()))).maxNumber().doubleValue();
        final boolean close = off <= tolerance * Transforms.abs(theirs).maxNumber().doubleValue();
        System.out.printf(Locale.ROOT, "%s: %s%n", what, close ? "as ND4J computes it" : "off by " + off);
        return close;
    }
}

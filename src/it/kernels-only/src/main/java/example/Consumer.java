package example;

import java.io.File;
import java.util.Arrays;

import org.bytedeco.javacpp.FloatPointer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/** What a trainer that links the kernels does. verify.groovy compares the lines it prints with expected.txt. */
public final class Consumer {
    public static void main(String[] args) {
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
            File file = new File(entry);
            if (file.isFile()) {
                System.out.println("jar " + file.getName());
            }
        }
        System.out.println("PyTorch " + (isPresent("org.bytedeco.pytorch.Tensor") ? "present" : "absent"));

        // Two rows over a vocabulary of 4, under the old and the new policy.
        try (FloatPointer oldMemory = new FloatPointer(1, 2, 3, 4, 0, 0, 0, 0);
                FloatPointer newMemory = new FloatPointer(1, 2, 3, 4, 1, 0, 0, 0);
                Indices targets = Indices.ofInts(3, 0);
                Floats logProbs = Floats.allocate(2);
                Floats kl = Floats.allocate(2)) {
            Logits oldLogits = Logits.of(oldMemory, DType.F32, 2, 4);
            Logits newLogits = Logits.of(newMemory, DType.F32, 2, 4);
            LogProbs.forward(oldLogits, targets, Temperature.ONE, logProbs, null, null);
            TokenKl.oldNew(oldLogits, newLogits, kl);
            System.out.println("log-probs " + rounded(logProbs.toArray()));
            System.out.println("KL(old || new) " + rounded(kl.toArray()));
        }
    }

    /** Five digits: the last bits differ between CPU levels. */
    private static String rounded(float[] values) {
        String[] words = new String[values.length];
        for (int i = 0; i < values.length; i++) {
            words[i] = String.format(java.util.Locale.ROOT, "%.5f", values[i]);
        }
        return Arrays.toString(words);
    }

    private static boolean isPresent(String name) {
        try {
            Class.forName(name, false, Consumer.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }
}

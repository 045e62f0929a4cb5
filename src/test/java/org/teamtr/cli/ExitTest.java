package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.teamtr.TestJvm;

class ExitTest {
    /** A JVM that a signal ends while libtorch computes does not crash, and does what is to be done before. */
    @Test
    @Timeout(60)
    void aSignalEndsAProcessWithinLibtorch() throws Exception {
        final Process child = new ProcessBuilder(TestJvm.command(Busy.class, "-Xmx256m", "-XX:ErrorFile=/dev/null"))
                .redirectErrorStream(true).start();
        try (BufferedReader lines = child.inputReader()) {
            assertEquals("begun", lines.readLine());
            Thread.sleep(100); // into the computation, which takes a second or more
            child.toHandle().destroy(); // SIGTERM, and the streams stay open
            assertEquals("last" + System.lineSeparator() + "first", lines.lines().collect(Collectors.joining(System.lineSeparator())));
            assertTrue(child.waitFor(20, TimeUnit.SECONDS));
            assertEquals(128 + 15, child.exitValue());
        } finally {
            child.destroyForcibly();
        }
    }

    /** One call into libtorch that takes long. */
    static final class Busy {
        public static void main(String[] args) {
            Exit.add(() -> System.out.println("first"));
            Exit.add(() -> System.out.println("last"));
            final Runnable removed = () -> System.out.println("removed");
            Exit.add(removed);
            Exit.remove(removed);
            Exit.onSignals();
            torch.set_num_threads(1); // a second or more on any processor
            final Tensor factor = torch.ones(2000, 2000);
            Tensor sum = torch.ones(2000, 2000).requires_grad_(true);
            for (int i = 0; i < 10; i++) {
                sum = torch.mm(torch.neg(sum), factor);
            }
            sum = torch.sum(sum);
            System.out.println("begun");
            sum.backward();
            System.out.println("ended");
        }
    }
}

package org.teamtr;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** JVMs that tests start. */
public final class TestJvm {
    private TestJvm() {
    }

    /**
     * {@return the command that runs a class in another JVM, on this one's class path} It lives too short for the second compiler to pay.
     * More arguments may be added.
     */
    public static List<String> command(Class<?> main, String... options) {
        final List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"));
        command.addAll(List.of(options));
        command.addAll(List.of("-cp", System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")), main.getName()));
        return command;
    }

    /** {@return a port that nobody listens at, for ranks to meet} */
    public static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }
}

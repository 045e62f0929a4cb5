package org.teamtr.cli;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.RanksException;
import org.teamtr.report.RunFiles;
import org.teamtr.report.Version;
import org.teamtr.torch.TorchRanks;
import org.teamtr.train.Config;

/** What a command does in addition when its process is one of several ranks. */
final class RankSetup {
    private RankSetup() {
    }

    /** The run directory that rank 0 has chosen. */
    record Where(Path run, boolean goesOn) {
    }

    /** Makes a new run directory. */
    interface NewRun {
        Path make() throws IOException;
    }

    /** {@return the command that starts another process as this one was started, but for --processes} */
    static List<String> command(List<String> arguments) {
        final List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName()));
        for (int i = 0; i < arguments.size(); i++) {
            if (arguments.get(i).equals("--processes")) {
                i++;
            } else if (!arguments.get(i).startsWith("--processes=")) {
                command.add(arguments.get(i));
            }
        }
        return command;
    }

    /** {@return a configuration written out} Ranks of one machine share its processors. */
    static Config resolved(Config c, RankEnvironment e) {
        final Config.Hardware h = c.hardware();
        final int threads = h.threads() > 0 ? h.threads() : Math.max(1, Runtime.getRuntime().availableProcessors() / e.localSize());
        return Setup.resolved(c.with(h.on(h.device(), threads)));
    }

    /**
     * Meets the other ranks, which need the same version and configuration.
     *
     * @param goOn how to resume, for the message when ranks are lost
     */
    static TorchRanks join(RankEnvironment e, Config config, Supplier<String> goOn) {
        final Map<String, String> facts = new LinkedHashMap<>();
        facts.put("version", Version.read());
        facts.putAll(ConfigFile.flat(config));
        return join(e, facts, Duration.ofMillis((long) (1e3 * config.hardware().ranks().timeout())), goOn);
    }

    /** The same, with what else has to be the same on all ranks, and how long one waits for another. */
    static TorchRanks join(RankEnvironment e, Map<String, String> facts, Duration patience, Supplier<String> goOn) {
        return TorchRanks.join(e, patience, facts, message -> {
            System.err.println("teamtr: " + message + goOn.get());
            Exit.now(1); // the thread that trains may be waiting within libtorch, for ever
        });
    }

    /** {@return the configuration with this rank's own GPU} */
    static Config local(Config c, RankEnvironment e) throws IOException {
        final Config.Hardware h = c.hardware();
        final Map<String, Config.Model> policies = new LinkedHashMap<>();
        for (Map.Entry<String, Config.Model> entry : c.policies().entrySet()) {
            final Config.Model m = entry.getValue();
            if (m.device() != null && m.device().contains(":") && e.localSize() > 1) {
                throw new IOException("policies." + entry.getKey() + ".device: expected cuda or cpu where a machine has " + e.localSize()
                        + " ranks, each of which has a GPU of its own, given " + m.device());
            }
            policies.put(entry.getKey(), new Config.Model(m.model(), m.random(), m.dtype(), m.lora(), m.thinking(), own(m.device(), e)));
        }
        return c.with(c.team(), policies)
                .with(h.on(own(h.device(), e), h.threads()));
    }

    private static String own(String device, RankEnvironment e) {
        return "cuda".equals(device) ? "cuda:" + e.localRank() : device;
    }

    /**
     * Agrees on the run directory, which rank 0 chooses.
     *
     * @param given --resume or --out, or null
     * @param resumes whether it is --resume; a restart by the launcher means that, too
     */
    static Where where(TorchRanks ranks, RankEnvironment e, Path given, boolean resumes, NewRun newRun) throws IOException {
        byte[] said = new byte[0];
        Where where = null;
        if (ranks.rank() == 0) {
            final String kept = ranks.kept("run", null);
            final Path known = given != null && (resumes || e.attempt() > 0) ? given : kept != null ? Path.of(kept) : null;
            final boolean goesOn = known != null && Files.exists(known.resolve(RunFiles.CONFIG));
            where = new Where(goesOn ? known : newRun.make(), goesOn);
            ranks.kept("run", where.run().toString());
            said = ((goesOn ? "+" : "-") + where.run().toAbsolutePath()).getBytes(StandardCharsets.UTF_8);
        }
        final String said0 = new String(ranks.broadcast("the run directory", said), StandardCharsets.UTF_8);
        return where != null ? where : new Where(Path.of(said0.substring(1)), said0.startsWith("+"));
    }

    /** Checks that this rank sees the run directory that rank 0 has made. */
    static void checkSees(Path run) throws IOException {
        if (!Files.isDirectory(run)) {
            throw new IOException(run + ": expected to see the folder that rank 0 has made; it has to be on a file system that all"
                    + " ranks share");
        }
    }

    /** Sends the reason why this rank ends to the other ranks. {@return the exception to throw} */
    static RuntimeException failed(TorchRanks ranks, Throwable e) throws IOException, ConfigException {
        ranks.fail(UserErrors.line(e));
        if (e instanceof RanksException r) {
            return r;
        }
        if (UserErrors.isForeseen(e)) {
            return new RanksException(ranks.name(ranks.rank()) + ": " + UserErrors.line(e), e);
        }
        if (e instanceof Error error) {
            throw error;
        }
        return (RuntimeException) e;
    }
}

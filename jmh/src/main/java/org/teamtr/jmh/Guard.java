package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.kernels.Backend;

/**
 * Measures what thresholds.txt asks for and exits with 1 if something fell.
 *
 * <p>Times are compared only within a round, in which the kernel and its peers run one after the other, a fork of a second
 * each. Two rounds that hold are enough; what does not hold is measured up to five times, and is said to have fallen only if
 * the rounds agree on it.
 */
public final class Guard {
    private static final int ENOUGH = 2;
    private static final int MOST = 5;
    private static final Jmh TIMES = new Jmh(2, 3, 150);
    private static final Jmh ALLOCATIONS = new Jmh(2, 2, 200);
    /** More than the caches hold, less than takes long. */
    static final Map<String, String> LOGITS = Map.of("rows", "192", "vocab", "151936");
    private static final Map<String, String> SMALL = Map.of("rows", "1", "vocab", "8");
    private static final Map<String, String> FEW = Map.of("tokens", "8");

    private final Path file;
    private int held;
    private int unclear;
    private int fell;

    private Guard(Path file) {
        this.file = file;
    }

    /** Arguments: thresholds.txt, and the script that counts instructions. */
    public static void main(String[] args) throws IOException, InterruptedException {
        System.setProperty("jmh.ignoreLock", "true"); // another run on this machine is noise, and that is dealt with
        final Path file = Path.of(args[0]);
        final Guard guard = new Guard(file);
        final List<Threshold> all = Threshold.read(file);
        System.out.println("guard: " + Backend.current() + ", " + file);
        guard.times(all.stream().filter(Threshold::timed).toList());
        guard.allocations(all.stream().filter(t -> t.what().equals("bytes")).toList());
        guard.instructions(all.stream().filter(t -> t.what().equals("instructions")).toList(), args[1]);
        System.out.printf("guard: %d held, %d fell, %d could not be judged%n", guard.held, guard.fell, guard.unclear);
        System.exit(guard.fell == 0 ? 0 : 1);
    }

    private void say(Threshold threshold, double[] rounds) {
        System.out.println(threshold.report(rounds, file));
        switch (threshold.judge(rounds)) {
            case HELD -> held++;
            case FELL -> fell++;
            default -> unclear++;
        }
    }

    private void skip(Threshold threshold, String reason) {
        System.out.println("skipped " + threshold.name() + " " + threshold.what() + ": " + reason);
        unclear++;
    }

    // ---- times ----

    private void times(List<Threshold> thresholds) {
        final Map<List<Object>, List<Threshold>> groups = new LinkedHashMap<>(); // that share a kernel's measurement
        for (Threshold t : thresholds) {
            final String level = t.params().get("cpu");
            if (level != null && !level.equals(Backend.current().level())) {
                skip(t, "this machine runs " + Backend.current().level() + ", the threshold is for " + level);
            } else {
                groups.computeIfAbsent(List.of(t.kernel(), t.params()), k -> new ArrayList<>()).add(t);
            }
        }
        for (List<Threshold> group : groups.values()) {
            final Map<Threshold, List<Double>> ratios = new LinkedHashMap<>();
            group.forEach(t -> ratios.put(t, new ArrayList<>()));
            for (int round = 0; round < MOST; round++) {
                final boolean early = round < ENOUGH;
                final List<Threshold> open = group.stream().filter(t -> early || !holds(t, ratios.get(t))).toList();
                if (open.isEmpty()) {
                    break;
                }
                final Map<String, String> params = params(open.get(0), LOGITS);
                final double ours = TIMES.fork(open.get(0).kernel(), "teamtr", params, false).millis();
                for (Threshold t : open) {
                    ratios.get(t).add(TIMES.fork(t.kernel(), t.what(), params, false).millis() / ours);
                }
            }
            group.forEach(t -> say(t, array(ratios.get(t))));
        }
    }

    private static boolean holds(Threshold threshold, List<Double> ratios) {
        return threshold.judge(array(ratios)) == Threshold.Verdict.HELD;
    }

    private static double[] array(List<Double> values) {
        return values.stream().mapToDouble(v -> v).toArray();
    }

    private static Map<String, String> params(Threshold threshold, Map<String, String> shape) {
        final Map<String, String> params = new TreeMap<>(threshold.params());
        if (overLogits(threshold)) {
            params.putAll(shape);
        } else if (shape == SMALL) {
            params.putAll(FEW);
        }
        return params;
    }

    private static boolean overLogits(Threshold threshold) {
        return threshold.params().containsKey("dtype");
    }

    // ---- allocations ----

    private void allocations(List<Threshold> thresholds) {
        for (Threshold t : thresholds) {
            say(t, new double[] {ALLOCATIONS.fork(t.kernel(), "teamtr", params(t, SMALL), true).allocated()});
        }
    }

    // ---- instructions ----

    private void instructions(List<Threshold> thresholds, String script) throws IOException, InterruptedException {
        for (Threshold t : thresholds) {
            final Process process = new ProcessBuilder("bash", script, t.kernel(), String.join(",", t.params().values()))
                    .redirectErrorStream(true).start();
            final String output = new String(process.getInputStream().readAllBytes()).strip();
            switch (process.waitFor()) {
                case 0 -> say(t, new double[] {Double.parseDouble(output)});
                case 77 -> skip(t, output); // as in automake: a test that cannot run here
                default -> throw new IllegalStateException(script + " " + t.name() + ": " + output);
            }
        }
    }
}

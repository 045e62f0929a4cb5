package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Measures the kernels that the guard times, with this build's native library and with that of another commit: jmh/compare.sh.
 * Benchmarks, Java classes and data are the same on both sides. A round measures each case once with either library, a fork of
 * each, one right after the other; in the next round the other one goes first.
 */
public final class Compare {
    private static final Jmh TIMES = new Jmh(1, 4, 100);

    private record Case(String kernel, Map<String, String> params) {
    }

    private Compare() {
    }

    /**
     * Arguments: thresholds.txt, the commit's name, a folder of natives that the class loader finds before those of this
     * build's jar, the minutes that may be taken, and a part of the kernels' names, or nothing for all of them.
     */
    public static void main(String[] args) throws IOException {
        System.setProperty("jmh.ignoreLock", "true");
        final String[] theirs = {"-Xbootclasspath/a:" + Path.of(args[2]).toAbsolutePath()};
        final long begin = System.nanoTime();
        final double limit = Double.parseDouble(args[3]) * 60;
        final List<Case> cases = cases(Path.of(args[0]), args.length > 4 ? args[4] : "");
        final Run[] then = new Run[cases.size()];
        final Run[] now = new Run[cases.size()];
        double longest = 0; // of the rounds
        int rounds = 0;
        for (double at = 0; rounds == 0 || at + longest <= limit; rounds++) {
            for (int i = 0; i < cases.size(); i++) {
                for (int side = 0; side < 2; side++) {
                    if ((side == 0) == (rounds % 2 == 0)) {
                        then[i] = add(then[i], cases.get(i), theirs);
                    } else {
                        now[i] = add(now[i], cases.get(i));
                    }
                }
                System.out.printf(Locale.ROOT, "round %d: %s %s: %.3f ms then, %.3f now%n", rounds + 1, cases.get(i).kernel(),
                        cases.get(i).params().values(), last(then[i]), last(now[i]));
            }
            final double seconds = (System.nanoTime() - begin) / 1e9;
            longest = Math.max(longest, seconds - at);
            at = seconds;
        }
        System.out.printf("%nMedians of %d rounds; then is commit %s. now / then is the median of the rounds' own ratios, and in brackets "
                + "the least and the most of them.%n%n| kernel | case | ms then | ms now | now / then |%n|---|---|---|---|---|%n", rounds, args[1]);
        for (int i = 0; i < cases.size(); i++) {
            double least = Double.POSITIVE_INFINITY;
            double most = 0;
            for (int round = 0; round < rounds; round++) {
                final double ratio = now[i].forks()[round] / then[i].forks()[round];
                least = Math.min(least, ratio);
                most = Math.max(most, ratio);
            }
            System.out.printf(Locale.ROOT, "| %s | %s | %.3f | %.3f | %.3f (%.3f to %.3f) |%n", cases.get(i).kernel(), name(cases.get(i)),
                    then[i].millis(), now[i].millis(), then[i].against(now[i]), least, most);
        }
    }

    /** {@return what the guard times, in both dtypes and in the guard's shape} */
    private static List<Case> cases(Path thresholds, String kernels) throws IOException {
        final Set<Case> cases = new LinkedHashSet<>();
        for (Threshold threshold : Threshold.read(thresholds)) {
            if (!threshold.timed() || !threshold.kernel().contains(kernels)) {
                continue;
            }
            for (String dtype : List.of("F32", "BF16")) {
                final Map<String, String> params = new TreeMap<>(threshold.params());
                params.remove("cpu");
                params.put("dtype", dtype);
                params.putAll(Guard.LOGITS);
                cases.add(new Case(threshold.kernel(), params));
            }
        }
        return new ArrayList<>(cases);
    }

    private static String name(Case of) {
        final Map<String, String> params = new TreeMap<>(of.params());
        params.keySet().removeAll(Guard.LOGITS.keySet());
        return String.join(" ", params.values()) + " [" + of.params().get("rows") + ", " + of.params().get("vocab") + "]";
    }

    private static double last(Run run) {
        return run.forks()[run.forks().length - 1];
    }

    private static Run add(Run runs, Case of, String... jvmArguments) {
        final Run run = TIMES.fork(of.kernel(), "teamtr", of.params(), false, jvmArguments);
        return runs == null ? run : runs.with(run);
    }
}

package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * One line of thresholds.txt, and the judgement of what was measured.
 *
 * @param what roofline or libtorch: the other side's time divided by the kernel's, at least {@code bound}; bytes: allocated on
 *     the Java
 *     heap by a call; instructions: executed per logit; both at most {@code bound}
 */
record Threshold(String kernel, Map<String, String> params, String what, double bound, String reason) {
    /** Forks of one measurement may differ by this share of their median and still be believed. */
    private static final double BELIEVED = 0.25;

    /** Rounds below which nothing is said to have fallen. */
    static final int ROUNDS = 3;

    enum Verdict { HELD, FELL, UNCLEAR }

    static List<Threshold> read(Path file) throws IOException {
        final List<Threshold> all = new ArrayList<>();
        int number = 0;
        for (String line : Files.readAllLines(file)) {
            number++;
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            try {
                all.add(parse(line));
            } catch (IllegalArgumentException e) {
                throw new IOException(file + ":" + number + ": " + e.getMessage(), e);
            }
        }
        return all;
    }

    static Threshold parse(String line) {
        final String[] columns = line.strip().split("\\s*\\|\\s*");
        if (columns.length != 5) {
            throw new IllegalArgumentException("expected kernel | parameters | what | bound | reason, given " + line);
        }
        final Map<String, String> params = new TreeMap<>();
        for (String param : columns[1].split("\\s+")) {
            final String[] parts = param.split("=");
            if (parts.length == 2) {
                params.put(parts[0], parts[1]);
            } else if (!param.equals("-")) {
                throw new IllegalArgumentException("expected name=value or -, given " + param);
            }
        }
        final String[] bound = columns[3].split("\\s+");
        final boolean least = List.of("roofline", "libtorch").contains(columns[2]);
        if (!least && !List.of("bytes", "instructions").contains(columns[2])) {
            throw new IllegalArgumentException("expected roofline, libtorch, bytes or instructions, given " + columns[2]);
        }
        if (bound.length != 2 || !bound[0].equals(least ? ">=" : "<=")) {
            throw new IllegalArgumentException("expected " + (least ? ">=" : "<=") + " and a number, given " + columns[3]);
        }
        return new Threshold(columns[0], params, columns[2], Double.parseDouble(bound[1]), columns[4]);
    }

    /** {@return whether this is about times, which noise touches} */
    boolean timed() {
        return what.equals("roofline") || what.equals("libtorch");
    }

    /**
     * Judges a ratio of times by its values in several rounds: it held if their median does. It fell if every round says so
     * and the rounds agree. Otherwise the machine was too noisy to tell.
     */
    Verdict judge(double[] rounds) {
        final double median = Run.median(rounds);
        if (!timed()) {
            return median <= bound ? Verdict.HELD : Verdict.FELL;
        }
        if (median >= bound) {
            return Verdict.HELD;
        }
        double least = Double.POSITIVE_INFINITY;
        double most = 0;
        for (double ratio : rounds) {
            least = Math.min(least, ratio);
            most = Math.max(most, ratio);
        }
        return rounds.length >= ROUNDS && most < bound && most - least <= BELIEVED * median ? Verdict.FELL : Verdict.UNCLEAR;
    }

    /** {@return a line that says what was measured and, where it fell, what to do} */
    String report(double[] rounds, Path file) {
        final Verdict verdict = judge(rounds);
        final StringBuilder text = new StringBuilder(String.format(Locale.ROOT, "%-8s%s: %s %s, threshold %s",
                verdict.name().toLowerCase(Locale.ROOT),
                name(), quantity(), number(Run.median(rounds)), number(bound)));
        if (timed()) {
            text.append(" (rounds:");
            for (double ratio : rounds) {
                text.append(' ').append(number(ratio));
            }
            text.append(')');
        }
        if (verdict == Verdict.UNCLEAR) {
            text.append("\n        could not be judged: the rounds do not agree, or not all are below; try a quieter machine");
        } else if (verdict == Verdict.FELL) {
            text.append("\n        Why the threshold: ").append(reason).append(".\n        ").append(remedy(file));
        }
        return text.toString();
    }

    private String quantity() {
        return switch (what) {
            case "roofline" -> "share of streaming bandwidth";
            case "libtorch" -> "times libtorch's speed";
            case "bytes" -> "bytes allocated per call";
            default -> "instructions per logit";
        };
    }

    private String remedy(Path file) {
        return (switch (what) {
            case "roofline", "libtorch" -> "The kernel has become slower, or the peer faster. java -jar jmh/target/benchmarks.jar "
                    + kernel + "Benchmark"
                    + " measures it alone, perf record -g its native code";
            case "bytes" -> "Something on the call's way allocates. java -jar jmh/target/benchmarks.jar " + kernel
                    + "Benchmark.teamtr -prof gc counts it";
            default -> "The kernel executes more. jmh/instructions.sh counts again, callgrind_annotate shows where";
        }) + "; if it is meant to, change the line in " + file + ".";
    }

    String name() {
        final StringBuilder name = new StringBuilder(kernel);
        params.forEach((key, value) -> name.append(' ').append(value));
        return name.toString();
    }

    private static String number(double value) {
        return String.format(Locale.ROOT, value >= 20 ? "%.0f" : "%.2f", value);
    }
}

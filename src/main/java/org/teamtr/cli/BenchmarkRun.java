package org.teamtr.cli;

import static org.teamtr.report.BenchmarkTable.Mode.Kind.BEST_OF;
import static org.teamtr.report.BenchmarkTable.Mode.Kind.JUDGE;
import static org.teamtr.report.BenchmarkTable.Mode.Kind.SINGLE;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.ToDoubleFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.DoubleStream;
import java.util.stream.LongStream;
import org.teamtr.config.Setup;
import org.teamtr.report.BenchmarkTable;
import org.teamtr.task.Benchmark;
import org.teamtr.task.Grader;
import org.teamtr.task.PromptFile;
import org.teamtr.task.Verifiers;
import org.teamtr.team.Agent;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Router;
import org.teamtr.team.Speaker;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.train.Config;
import org.teamtr.train.Draw;
import org.teamtr.train.PassRates;

/** Plays one benchmark with a team and counts. */
final class BenchmarkRun {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Episodes that are played at once; what is sampled depends on it. */
    private static final int AT_ONCE = 256;
    private static final Pattern NUMBER = Pattern.compile("(?<![0-9.])[0-9]{1,6}(?![0-9])");
    private static final List<String> PARTS = List.of("level", "subject", "size", "task", "lang");
    /** Figures of episodes that are counts; the others are shares, 0 to 1. */
    private static final List<String> COUNTS =
            List.of("turns", "solved_at", "steps", "rounds", "calls", "failed_calls", "wrong_names", "constraints");

    private final Setup setup;
    private final Generation generation;
    private final BenchmarkTable.Mode mode;
    private final Path failures; // null for none

    /**
     * @param failures where transcripts of wrong episodes are added; null for nowhere
     */
    BenchmarkRun(Setup setup, Generation generation, BenchmarkTable.Mode mode, Path failures) {
        this.setup = setup;
        this.generation = generation;
        this.mode = mode;
        this.failures = failures;
    }

    /** The items' scores. A verifier that breaks is counted, and the episode left out. */
    private static final class Counting implements Environment {
        private final Verifier verifier;
        private long faults;

        Counting(Verifier verifier) {
            this.verifier = verifier;
        }

        @Override
        public Course start(Prompt prompt, long seed) {
            return verifier instanceof Environment environment ? environment.start(prompt, seed) : null;
        }

        @Override
        public Oracle oracle() {
            return verifier instanceof Environment environment ? environment.oracle() : null;
        }

        @Override
        public List<Map<String, Object>> tools() {
            return verifier instanceof Environment environment ? environment.tools() : List.of();
        }

        @Override
        public Score score(Context episode) {
            try {
                return verifier.score(episode);
            } catch (IllegalStateException e) {
                faults++;
                return new Score(0, false, Map.of("fault", 1.0));
            }
        }
    }

    /** {@return what a benchmark gives}, of the prompts of a file as {@code teamtr data prepare} writes it */
    BenchmarkTable.Result play(Benchmark benchmark, Path file, int k, int seeds) throws IOException {
        final Prompts prompts = PromptFile.read(file, new PromptFile.Columns("prompt", "answer", "id", "source", true));
        final boolean game = setup.verifier instanceof Environment;
        if (game && (is(BEST_OF) || is(JUDGE))) {
            throw new IllegalArgumentException("--mode: expected chain or single:ROLE with an environment, whose episodes are worth what their end"
                    + " is, given " + mode);
        }
        if (List.of("guess_number", "detective", "situation", "retail").contains(benchmark.name()) && !game) {
            throw new IllegalArgumentException("benchmark " + benchmark.name() + ": expected a configuration whose task.environment.name is "
                    + benchmark.name() + ", given none");
        }
        final Verifier scoring = game ? setup.verifier : Verifiers.of(benchmark.verifier(), scoringSettings());
        final Grader grader = game ? null : Verifiers.grader(benchmark.verifier(), scoringSettings());
        for (int i = 0; i < prompts.size() && grader != null; i++) {
            try {
                grader.check(prompts.get(i));
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException(file + ": " + prompts.get(i).id() + ": " + e.getMessage(), e);
            }
        }
        final Counting verifier = new Counting(scoring);
        final Team team = team();
        final List<List<Boolean>> right = new ArrayList<>();
        final List<boolean[]> majority = new ArrayList<>();
        final List<List<Map<String, Double>>> measured = new ArrayList<>(); // what was measured of each episode that counts
        final Map<String, Long> counts = new LinkedHashMap<>();
        for (String name : List.of("items", "episodes", "without answer", "cut by the length limit", "errors of the verifier",
                "without a choice of the judge", "tokens generated", "characters observed")) {
            counts.put(name, 0L);
        }
        counts.put("items", (long) prompts.size());
        if (!is(JUDGE)) {
            counts.remove("without a choice of the judge");
        }
        for (int i = 0; i < prompts.size(); i++) {
            right.add(new ArrayList<>());
            measured.add(new ArrayList<>());
            majority.add(new boolean[0]);
        }
        final int each = Math.max(1, AT_ONCE / k);
        for (int s = 0; s < seeds; s++) {
            for (int from = 0; from < prompts.size(); from += each) {
                final List<Prompt> some = new ArrayList<>();
                for (int i = from; i < Math.min(prompts.size(), from + each); i++) {
                    some.add(prompts.get(i));
                }
                final long seed = KeyedRandom.seed(setup.config.seed(), Draw.BENCHMARK, s, from);
                final List<Episode> played = Rollout.play(team, some, k, generation, verifier, seed);
                final List<Episode> episodes = is(JUDGE) ? judged(played, verifier, seed, counts) : played;
                for (int i = 0; i < some.size(); i++) {
                    final List<Episode> own = episodes.subList(i * k, (i + 1) * k);
                    count(benchmark, some.get(i), own, right.get(from + i), measured.get(from + i), verifier, counts);
                    if (s == 0 && grader != null) {
                        majority.set(from + i, majority(grader, some.get(i), own));
                    }
                }
            }
        }
        counts.put("errors of the verifier", verifier.faults);
        return result(benchmark, prompts, k, seeds, right, majority, measured, counts, grader != null);
    }

    private Verifiers.Settings scoringSettings() {
        return new Verifiers.Settings(1, 0, false, setup.config.task().files().lenient(), setup.config.task().files().python());
    }

    private boolean is(BenchmarkTable.Mode.Kind kind) {
        return mode.kind() == kind;
    }

    private Team team() {
        if (is(JUDGE)) {
            agent();
        }
        return is(SINGLE) ? new Team(setup.team.agents(), Router.sequence(setup.team.agents().indexOf(agent())), 1, context -> false)
                : setup.team;
    }

    /** Whom the mode names. */
    private Agent agent() {
        return setup.team.agents().stream().filter(agent -> agent.role().equals(mode.role())).findFirst()
                .orElseThrow(() -> new IllegalArgumentException("--mode: expected " + (is(JUDGE) ? "judge:" : "single:") + " and one of "
                        + setup.team.agents().stream().map(Agent::role).toList() + ", given " + mode.role()));
    }

    /**
     * The episodes up to the message that a judge chooses: it is asked which of the messages answers the problem best, in its own chat
     * template, and says a number. Where it says none that there is, the last message stays.
     */
    private List<Episode> judged(List<Episode> episodes, Verifier verifier, long seed, Map<String, Long> counts) {
        final Speaker judge = agent().speaker();
        final List<int[]> asked = new ArrayList<>();
        for (Episode e : episodes) {
            final StringBuilder text = new StringBuilder("Problem:\n").append(e.prompt().text()).append("\n\n");
            for (Message m : e.messages()) {
                text.append("Answer ").append(m.turn() + 1).append(":\n").append(m.text()).append("\n\n");
            }
            final int[] tokens =
                    judge.encode(List.of(new ChatTurn("user", text.append("Which answer is right? End with its number: Answer N.").toString())));
            final int room = judge.contextLength() - generation.maxNewTokens();
            asked.add(tokens.length <= room ? tokens : Truncation.MIDDLE.cut(tokens, room));
        }
        final List<Utterance> said = judge.generate(asked, generation, KeyedRandom.seed(seed, Draw.JUDGE),
                LongStream.range(0, episodes.size()).toArray());
        final List<Episode> judged = new ArrayList<>();
        for (int i = 0; i < episodes.size(); i++) {
            final Episode e = episodes.get(i);
            final int choice = choice(said.get(i).text());
            if (choice < 1 || choice > e.context().turn()) {
                counts.merge("without a choice of the judge", 1L, Long::sum);
                judged.add(e);
            } else {
                final Context chosen = e.context().before(choice);
                judged.add(new Episode(chosen, verifier.score(chosen)));
            }
            counts.merge("tokens generated", (long) said.get(i).tokens().length, Long::sum);
        }
        return judged;
    }

    /** {@return the last number of a judge's message; 0 without one} */
    static int choice(String text) {
        final Matcher m = NUMBER.matcher(text);
        int choice = 0;
        while (m.find()) {
            choice = Integer.parseInt(m.group());
        }
        return choice;
    }

    private void count(Benchmark benchmark, Prompt prompt, List<Episode> episodes, List<Boolean> right,
            List<Map<String, Double>> measured, Counting verifier, Map<String, Long> counts) throws IOException {
        for (Episode e : episodes) {
            counts.merge("episodes", 1L, Long::sum);
            counts.merge("tokens generated", e.tokens(), Long::sum);
            counts.merge("cut by the length limit", e.messages().isEmpty() || e.context().last().utterance().ended() ? 0L : 1L, Long::sum);
            counts.merge("without answer", e.score().figures().getOrDefault("answered", 1.0) == 0 ? 1L : 0L, Long::sum);
            for (int t = 0; t < e.context().turn(); t++) {
                final int seen = e.context().observation(t) == null ? 0 : e.context().observation(t).text().length();
                counts.merge("characters observed", (long) seen, Long::sum);
            }
            if (e.score().figures().containsKey("fault")) {
                continue;
            }
            boolean correct = e.score().correct();
            if (is(BEST_OF)) {
                for (int t = 1; t < e.context().turn() && !correct; t++) {
                    correct = verifier.score(e.context().before(t)).correct();
                }
            }
            right.add(correct);
            measured.add(e.score().figures());
            if (!correct && failures != null) {
                transcript(benchmark, prompt, e);
            }
        }
    }

    private void transcript(Benchmark benchmark, Prompt prompt, Episode episode) throws IOException {
        final Map<String, Object> row = new LinkedHashMap<>();
        row.put("benchmark", benchmark.name());
        row.put("id", prompt.id());
        row.put("prompt", prompt.text());
        row.put("answer", prompt.answer());
        row.put("figures", episode.score().figures());
        final List<Map<String, Object>> said = new ArrayList<>();
        for (Message m : episode.messages()) {
            final Map<String, Object> message = new LinkedHashMap<>();
            message.put("role", m.role());
            message.put("text", m.text());
            message.put("ended", m.utterance().ended());
            if (episode.context().observation(m.turn()) != null) {
                message.put("observation", episode.context().observation(m.turn()).text());
            }
            said.add(message);
        }
        row.put("messages", said);
        try (Writer out = Files.newBufferedWriter(failures, StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
            out.write(JSON.writeValueAsString(row) + "\n");
        }
    }

    private static boolean[] majority(Grader grader, Prompt prompt, List<Episode> episodes) {
        final List<String> answers = new ArrayList<>();
        for (Episode e : episodes) {
            answers.add(e.context().last() == null ? null : grader.answer(prompt, e.context().last().text()));
        }
        final int best = PassRates.majority(answers, grader::same);
        return new boolean[] {best >= 0 && episodes.get(best).score().correct()};
    }

    private BenchmarkTable.Result result(Benchmark benchmark, Prompts prompts, int k, int seeds, List<List<Boolean>> right, List<boolean[]> majority,
            List<List<Map<String, Double>>> measured, Map<String, Long> counts, boolean voted) {
        final List<boolean[]> all = new ArrayList<>();
        for (List<Boolean> item : right) {
            final boolean[] r = new boolean[item.size()];
            for (int i = 0; i < r.length; i++) {
                r[i] = item.get(i);
            }
            all.add(r);
        }
        final List<BenchmarkTable.Figure> figures = new ArrayList<>();
        final ToDoubleFunction<boolean[]> average = r -> (double) PassRates.count(r) / r.length;
        add(figures, benchmark, "all", "avg@" + k, all, average);
        add(figures, benchmark, "all", "pass@" + k, all, r -> PassRates.passAt(r.length, PassRates.count(r), Math.min(k, r.length)));
        add(figures, benchmark, "all", "pass^" + k, all, r -> PassRates.allOf(r.length, PassRates.count(r), Math.min(k, r.length)));
        if (voted) {
            add(figures, benchmark, "all", "maj@" + k, majority, r -> r[0] ? 1 : 0);
        }
        measured(figures, benchmark, measured);
        for (String column : PARTS) {
            final Map<String, List<boolean[]>> parts = new TreeMap<>();
            for (int i = 0; i < prompts.size(); i++) {
                final Object value = prompts.get(i).meta().get(column);
                if (value != null) {
                    parts.computeIfAbsent(value.toString(), v -> new ArrayList<>()).add(all.get(i));
                }
            }
            if (parts.size() > 1 && parts.size() <= 40) {
                parts.forEach((value, items) -> add(figures, benchmark, column + " " + value, "avg@" + k, items, average));
            }
        }
        final List<String> caveats = new ArrayList<>(List.of(benchmark.caveat().split("; ")));
        if (k != benchmark.k()) {
            caveats.add("the paper has k = " + benchmark.k() + ", here it is " + k);
        }
        if (benchmark.items() > 0 && prompts.size() != benchmark.items()) {
            caveats.add("the paper has " + benchmark.items() + " items, here there are " + prompts.size());
        }
        if (!voted) {
            gameCaveats(caveats);
        }
        if (is(JUDGE)) {
            caveats.add("an agent of the team chooses among the messages of an episode");
        }
        if (is(BEST_OF)) {
            caveats.add("the best message of an episode is chosen by the reference answer");
        }
        final String judge = voted ? benchmark.verifier() : "the environment " + setup.config.task().environment().name();
        return new BenchmarkTable.Result(benchmark.name(), benchmark.title(), new BenchmarkTable.Setting(mode, judge, k, seeds), counts, figures,
                new BenchmarkTable.Paper(benchmark.published(), benchmark.figure() == null ? "avg@" + k : benchmark.figure(), caveats));
    }

    /** How the game differs from AR-Bench's. */
    private void gameCaveats(List<String> caveats) {
        final Config.Environment e = setup.config.task().environment();
        if (List.of("guess_number", "detective", "situation").contains(e.name()) && e.turns() != 25) {
            caveats.add("AR-Bench answers 25 times, here it is " + e.turns());
        }
        if (e.name().equals("guess_number") && e.earlyStop()) {
            caveats.add("AR-Bench counts the last guess alone, here the right one ends an episode (early_stop)");
        }
        if ("script".equals(e.oracle())) {
            caveats.add("a script answers the team's questions; what is measured with it says nothing");
        }
    }

    /** Means of what was measured of episodes, over those that have it; of a grid's cells those right of all. */
    private void measured(List<BenchmarkTable.Figure> figures, Benchmark benchmark, List<List<Map<String, Double>>> measured) {
        final Set<String> names = new TreeSet<>();
        measured.forEach(item -> item.forEach(episode -> names.addAll(episode.keySet())));
        names.remove("answered"); // which is counted
        if (names.remove("cells_right")) {
            figures.add(
                    new BenchmarkTable.Figure(benchmark.name(), "all", "cells", PassRates.ratio(of(measured, "cells_right"), of(measured, "cells"),
                            setup.config.seed()), measured.size(), true));
            names.remove("cells");
        }
        for (String name : names) {
            final List<double[]> values = name.equals("solved_at") ? of(measured, name).stream() // of those that were solved
                    .map(v -> Arrays.stream(v).filter(turn -> turn > 0).toArray()).toList() : of(measured, name);
            final List<double[]> ones = values.stream().map(v -> DoubleStream.generate(() -> 1).limit(v.length).toArray()).toList();
            figures.add(new BenchmarkTable.Figure(benchmark.name(), "all", name, PassRates.ratio(values, ones, setup.config.seed()), measured.size(),
                    !COUNTS.contains(name)));
        }
    }

    private static List<double[]> of(List<List<Map<String, Double>>> measured, String name) {
        return measured.stream().map(item -> item.stream().filter(e -> e.containsKey(name)).mapToDouble(e -> e.get(name)).toArray()).toList();
    }

    private void add(List<BenchmarkTable.Figure> figures, Benchmark benchmark, String part, String metric, List<boolean[]> items,
            ToDoubleFunction<boolean[]> of) {
        final PassRates.Interval interval = PassRates.bootstrap(items, of, setup.config.seed());
        figures.add(new BenchmarkTable.Figure(benchmark.name(), part, metric, interval, items.size(), true));
    }
}

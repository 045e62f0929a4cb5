package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.team.Context;
import org.teamtr.team.Episode;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;

/**
 * Conversations of a team as files, one for each learner, {@code planner.jsonl}: the prompts and messages of its agents, token for token,
 * with the log-probs of the tokens and the return of each episode. An update that reads them equals the update that would have played them.
 *
 * <p>The first line describes the file ({@link Header}), every other is a message ({@link Line}).
 */
public final class Conversations {
    private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES);
    private static final String FORMAT = "teamtr conversations 1";

    /**
     * What a file holds.
     *
     * @param group episodes of each prompt, which stand next to each other
     */
    record Header(String format, @JsonUnwrapped Learners learners, int stage, double temperature, int group, @JsonUnwrapped Played played) {
    }

    /**
     * The policies that generated the messages.
     *
     * @param policy checksum of the learner's parameters
     * @param others those of the other learners, by name
     */
    record Learners(String learner, long policy, Map<String, Long> others) {
    }

    /**
     * The episodes.
     *
     * @param prompts ids, one for each group
     * @param correct whether they were
     */
    record Played(List<String> prompts, double[] returns, boolean[] correct) {
    }

    /** A message. {@code episode}: its index in the returns. */
    record Line(int episode, int turn, int agent, String role, @JsonUnwrapped Said said) {
    }

    /** What a message says, as an {@link Utterance}. */
    record Said(int[] prompt, int[] tokens, float[] logProbs, String text, boolean ended) {
    }

    /**
     * What was read of a learner.
     *
     * @param fresh whether no policy has changed since the messages were generated
     */
    public record Recorded(List<Episode> episodes, boolean fresh) {
    }

    private Conversations() {
    }

    /**
     * Writes a file for every learner.
     *
     * @param stage that is to learn from them
     * @param folder exists
     * @return the files
     */
    public static List<Path> write(List<Episode> episodes, List<Learner> learners, Config config, int stage, Path folder) throws IOException {
        final int group = config.rollout().group();
        final List<String> prompts = new ArrayList<>();
        final double[] returns = new double[episodes.size()];
        final boolean[] correct = new boolean[episodes.size()];
        for (int e = 0; e < returns.length; e++) {
            returns[e] = episodes.get(e).reward();
            correct[e] = episodes.get(e).score().correct();
            if (e % group == 0) {
                prompts.add(episodes.get(e).prompt().id());
            }
        }
        final Map<String, Long> policies = new LinkedHashMap<>();
        learners.forEach(learner -> policies.put(learner.name, learner.policy.fingerprint()));
        final List<Path> files = new ArrayList<>();
        for (Learner learner : learners) {
            final Path file = file(folder, learner);
            final Path next = file.resolveSibling(file.getFileName() + ".tmp");
            try (Writer out = Files.newBufferedWriter(next)) {
                final Map<String, Long> others = new LinkedHashMap<>(policies);
                others.remove(learner.name);
                out.write(JSON.writeValueAsString(new Header(FORMAT, new Learners(learner.name, policies.get(learner.name), others), stage,
                        config.rollout().temperature(), group, new Played(prompts, returns, correct))) + "\n");
                for (int e = 0; e < returns.length; e++) {
                    for (Message m : episodes.get(e).messages()) {
                        if (learner.speaksAs(m.agent())) {
                            final Utterance u = m.utterance();
                            out.write(JSON.writeValueAsString(new Line(e, m.turn(), m.agent(), m.role(),
                                    new Said(u.prompt(), u.tokens(), u.logProbs(), u.text(), u.ended()))) + "\n");
                        }
                    }
                }
            }
            Files.move(next, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            files.add(file);
        }
        return files;
    }

    private static Path file(Path folder, Learner learner) {
        return folder.resolve(Checkpoints.fileName(learner) + ".jsonl");
    }

    /** {@return whether there is a file of a learner} */
    public static boolean has(Path folder, Learner learner) {
        return Files.exists(file(folder, learner));
    }

    /**
     * {@return the episodes of a learner's file, with its messages alone}
     *
     * @param learners all of the team
     * @throws IOException if the file cannot be read, or is of another policy, temperature or group than the configuration's, with the line
     */
    public static Recorded read(Path folder, Learner learner, List<Learner> learners, Config config) throws IOException {
        final Path file = file(folder, learner);
        try (BufferedReader in = Files.newBufferedReader(file)) {
            final Header header = parse(file, 1, in.readLine(), Header.class);
            check(file, learner, config, header);
            final Played played = header.played();
            final List<List<Message>> messages = new ArrayList<>();
            for (int e = 0; e < played.returns().length; e++) {
                messages.add(new ArrayList<>());
            }
            int number = 1;
            for (String text = in.readLine(); text != null; text = in.readLine()) {
                number++;
                final Line line = parse(file, number, text, Line.class);
                final Said said = line.said();
                if (line.episode() < 0 || line.episode() >= played.returns().length || !learner.speaksAs(line.agent())
                        || said.tokens().length != said.logProbs().length || said.tokens().length == 0 || said.prompt().length == 0) {
                    throw new IOException(file + ":" + number + ": expected a message of " + learner.name + " in one of " + played.returns().length
                            + " episodes, with tokens and as many log-probs, given episode " + line.episode() + ", agent " + line.agent() + ", "
                            + said.tokens().length + " tokens and " + said.logProbs().length + " log-probs");
                }
                messages.get(line.episode()).add(new Message(line.turn(), line.agent(), line.role(), new Utterance(said.prompt(), said.tokens(),
                        said.logProbs(), said.text(), said.ended(), learner.policy.version())));
            }
            final List<Episode> episodes = new ArrayList<>();
            for (int e = 0; e < messages.size(); e++) {
                final Prompt prompt = new Prompt(played.prompts().get(e / header.group()), "", null);
                episodes.add(new Episode(Context.of(prompt, e, messages.get(e)), new Verifier.Score(played.returns()[e], played.correct()[e])));
            }
            boolean fresh = true;
            for (Learner other : learners) {
                fresh &= other == learner || Long.valueOf(other.policy.fingerprint()).equals(header.learners().others().get(other.name));
            }
            return new Recorded(episodes, fresh);
        }
    }

    private static void check(Path file, Learner learner, Config config, Header header) throws IOException {
        final Played played = header.played();
        final int episodes = played.returns().length;
        if (!FORMAT.equals(header.format()) || header.group() < 1 || played.correct().length != episodes
                || played.prompts().size() * header.group() != episodes) {
            throw new IOException(file + ":1: expected the description of a file of conversations (" + FORMAT + "), with a return for each of "
                    + "prompts times group episodes");
        }
        if (!header.learners().learner().equals(learner.name)) {
            throw new IOException(file + ": expected conversations of " + learner.name + ", given those of " + header.learners().learner());
        }
        if (header.learners().policy() != learner.policy.fingerprint()) {
            throw new IOException(
                    file + ": expected messages of the current parameters of " + learner.name + " (checksum "
                            + Long.toHexString(learner.policy.fingerprint())
                            + "), given messages of other parameters (" + Long.toHexString(header.learners().policy())
                            + "): it has been trained since, or is"
                            + " another model; ./teamtr collect writes new ones");
        }
        if (header.temperature() != config.rollout().temperature()) {
            throw new IOException(file + ": rollout.temperature: expected " + header.temperature() + ", at which they were sampled, given "
                    + config.rollout().temperature());
        }
        if (header.group() != config.rollout().group()) {
            throw new IOException(file + ": rollout.group: expected " + header.group() + ", as many episodes of each prompt there are, given "
                    + config.rollout().group());
        }
    }

    private static <T> T parse(Path file, int line, String text, Class<T> type) throws IOException {
        try {
            return JSON.readValue(text == null ? "" : text, type);
        } catch (JsonProcessingException e) {
            throw new IOException(file + ":" + line + ": expected a line of a file of conversations: " + e.getOriginalMessage(), e);
        }
    }
}

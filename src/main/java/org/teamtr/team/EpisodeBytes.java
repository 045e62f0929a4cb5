package org.teamtr.team;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Episodes as bytes, for ranks to give them to each other. The prompts are known on both sides. */
final class EpisodeBytes {
    private EpisodeBytes() {
    }

    /** @param episodes by their numbers; those that are null are left out */
    static byte[] of(Episode[] episodes) {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            for (int number = 0; number < episodes.length; number++) {
                if (episodes[number] != null) {
                    out.writeInt(number);
                    write(out, episodes[number]);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }

    /** Puts the episodes in their places. */
    static void into(Episode[] episodes, byte[] bytes, List<Prompt> prompts, int group) {
        try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes))) {
            while (in.available() > 0) {
                final int number = in.readInt();
                episodes[number] = read(in, prompts.get(number / group), number);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void write(DataOutputStream out, Episode episode) throws IOException {
        final Context context = episode.context();
        out.writeLong(context.seed());
        write(out, context.opening());
        out.writeInt(context.turn());
        for (Message message : context.messages()) {
            final Utterance said = message.utterance();
            out.writeInt(message.agent());
            text(out, message.role());
            ints(out, said.prompt());
            ints(out, said.tokens());
            final ByteBuffer logProbs = ByteBuffer.allocate(Float.BYTES * said.logProbs().length);
            logProbs.asFloatBuffer().put(said.logProbs());
            out.writeInt(said.logProbs().length);
            out.write(logProbs.array());
            text(out, said.text());
            out.writeBoolean(said.ended());
            out.writeLong(said.version());
            write(out, context.observation(message.turn()));
        }
        out.writeDouble(episode.score().reward());
        out.writeBoolean(episode.score().correct());
        out.writeInt(episode.score().figures().size());
        for (Map.Entry<String, Double> figure : episode.score().figures().entrySet()) {
            text(out, figure.getKey());
            out.writeDouble(figure.getValue());
        }
    }

    private static Episode read(DataInputStream in, Prompt prompt, int number) throws IOException {
        final Context context = new Context(prompt, number, in.readLong());
        context.open(observation(in));
        final int turns = in.readInt();
        for (int turn = 0; turn < turns; turn++) {
            final int agent = in.readInt();
            final String role = text(in);
            final int[] asked = ints(in);
            final int[] tokens = ints(in);
            final float[] logProbs = new float[in.readInt()];
            ByteBuffer.wrap(in.readNBytes(Float.BYTES * logProbs.length)).asFloatBuffer().get(logProbs);
            context.append(new Message(turn, agent, role, new Utterance(asked, tokens, logProbs, text(in), in.readBoolean(), in.readLong())));
            context.observe(observation(in));
        }
        final double reward = in.readDouble();
        final boolean correct = in.readBoolean();
        final Map<String, Double> figures = new TreeMap<>();
        for (int left = in.readInt(); left > 0; left--) {
            figures.put(text(in), in.readDouble());
        }
        return new Episode(context, new Verifier.Score(reward, correct, figures));
    }

    private static void write(DataOutputStream out, Observation observation) throws IOException {
        out.writeBoolean(observation != null);
        if (observation != null) {
            text(out, observation.role());
            text(out, observation.text());
            out.writeInt(observation.results().size());
            for (String result : observation.results()) {
                text(out, result);
            }
        }
    }

    private static Observation observation(DataInputStream in) throws IOException {
        if (!in.readBoolean()) {
            return null;
        }
        final String role = text(in);
        final String text = text(in);
        final List<String> results = new ArrayList<>();
        for (int left = in.readInt(); left > 0; left--) {
            results.add(text(in));
        }
        return new Observation(role, text, results);
    }

    private static void ints(DataOutputStream out, int[] values) throws IOException {
        final ByteBuffer bytes = ByteBuffer.allocate(Integer.BYTES * values.length);
        bytes.asIntBuffer().put(values);
        out.writeInt(values.length);
        out.write(bytes.array());
    }

    private static int[] ints(DataInputStream in) throws IOException {
        final int[] values = new int[in.readInt()];
        ByteBuffer.wrap(in.readNBytes(Integer.BYTES * values.length)).asIntBuffer().get(values);
        return values;
    }

    /** As Java has it: lone surrogates stay what they are. */
    private static void text(DataOutputStream out, String text) throws IOException {
        out.writeInt(text.length());
        final ByteBuffer bytes = ByteBuffer.allocate(Character.BYTES * text.length());
        bytes.asCharBuffer().put(text);
        out.write(bytes.array());
    }

    private static String text(DataInputStream in) throws IOException {
        final char[] chars = new char[in.readInt()];
        ByteBuffer.wrap(in.readNBytes(Character.BYTES * chars.length)).asCharBuffer().get(chars);
        return new String(chars);
    }
}

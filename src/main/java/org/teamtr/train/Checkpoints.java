package org.teamtr.train;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import org.teamtr.team.Verifier;

/**
 * Checkpoints of a run, {@code checkpoints/stage-0007}: a folder per learner as its policy writes it, and {@code state.json}. A
 * folder of this name is always complete: it is written under another name, forced to the disk, then renamed.
 */
public final class Checkpoints {
    private static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT)
            .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES);
    private static final String STATE = "state.json";
    private static final String PREFIX = "stage-";
    /** The most characters of a learner's name in the name of its folder. */
    private static final int LONGEST = 100;

    /** What {@code state.json} holds. Nothing of the random numbers: they are keyed by the stage. */
    record State(int stage, Map<String, Saved> learners, List<Verifier.Score> heldOut, Long heldOutChecksum) {
    }

    /** One learner's: δ and β, the monitor's floor, null if it was not measured, and the checksum of its parameters. */
    record Saved(double delta, double beta, Learner.Floor floor, long fingerprint) {
    }

    private final Path folder;
    private final int keep;

    /**
     * @param run the run directory
     * @param keep how many checkpoints are kept, 1 or more; the others are removed after each {@link #save}
     */
    public Checkpoints(Path run, int keep) {
        this.folder = run.resolve("checkpoints");
        this.keep = keep;
    }

    /**
     * Writes the checkpoint of a stage.
     *
     * @param heldOut scores of the latest held-out episodes, see {@link Trainer#heldOut}
     * @throws IOException if it cannot be written, with the latest checkpoint that is complete; nothing that was there is lost
     */
    public void save(int stage, List<Learner> learners, HeldOutScores heldOut) throws IOException {
        final Path next = folder.resolve(".next");
        try {
            Files.createDirectories(folder);
            remove(next);
            Files.createDirectory(next);
            final Map<String, Saved> saved = new LinkedHashMap<>();
            for (Learner learner : learners) {
                final Path own = Files.createDirectory(next.resolve(fileName(learner)));
                learner.policy.save(own);
                force(own);
                saved.put(learner.name, new Saved(learner.delta, learner.beta, learner.floor, learner.policy.fingerprint()));
            }
            Files.write(next.resolve(STATE), JSON.writeValueAsBytes(new State(stage, saved, heldOut.scores(), heldOut.checksum())));
            force(next);
            final Path target = folder.resolve(String.format(Locale.ROOT, "%s%04d", PREFIX, stage));
            remove(target); // of a run that was resumed from an earlier stage
            Files.move(next, target, StandardCopyOption.ATOMIC_MOVE);
            force(folder);
        } catch (IOException e) {
            try {
                remove(next); // a full disk needs the room
            } catch (IOException left) {
                e.addSuppressed(left);
            }
            final Path latest = latest();
            throw new IOException("checkpoint of stage " + stage + ": " + describe(e) + "; "
                    + (latest == null ? "there is no earlier one" : latest + " is complete"), e);
        }
        final List<Path> all = complete();
        for (Path old : all.subList(0, Math.max(0, all.size() - keep))) {
            remove(old);
        }
    }

    /** Called on the other ranks while one of them saves. */
    public static void sendParts(List<Learner> learners) {
        learners.forEach(learner -> learner.policy.sendParts());
    }

    /** {@return where they are} */
    public Path folder() {
        return folder;
    }

    /** {@return the latest checkpoint, or null if there is none} */
    public Path latest() throws IOException {
        final List<Path> all = complete();
        return all.isEmpty() ? null : all.get(all.size() - 1);
    }

    /** {@return the stage of the latest checkpoint; 0 if there is none} */
    public int stage() throws IOException {
        final Path latest = latest();
        return latest == null ? 0 : Integer.parseInt(latest.getFileName().toString().substring(PREFIX.length()));
    }

    /**
     * Brings the learners to the state of a checkpoint.
     *
     * @return its stage
     * @throws IOException if something is missing, unreadable or damaged, naming it
     */
    public static int load(Path checkpoint, List<Learner> learners) throws IOException {
        final State state = state(checkpoint);
        for (Learner learner : learners) {
            final Saved saved = state.learners().get(learner.name);
            if (saved == null) {
                throw new IOException(checkpoint + ": expected a checkpoint of " + learner.name + ", given " + state.learners().keySet());
            }
            final Path own = checkpoint.resolve(fileName(learner));
            learner.policy.load(own);
            if (learner.policy.fingerprint() != saved.fingerprint()) {
                throw new IOException(own + ": the parameters are not those that were saved (checksum "
                        + Long.toHexString(learner.policy.fingerprint()) + ", expected " + Long.toHexString(saved.fingerprint()) + ")");
            }
            learner.delta = saved.delta();
            learner.beta = saved.beta();
            learner.floor = saved.floor();
        }
        return state.stage();
    }

    /**
     * {@return the scores of the latest held-out episodes before a checkpoint}
     *
     * @throws IOException as {@link #load} does
     */
    public static HeldOutScores heldOut(Path checkpoint) throws IOException {
        final State state = state(checkpoint);
        return new HeldOutScores(state.heldOutChecksum(), state.heldOut());
    }

    private static State state(Path checkpoint) throws IOException {
        try {
            final ObjectNode fields = JSON.readValue(Files.readAllBytes(checkpoint.resolve(STATE)), ObjectNode.class);
            if (!fields.has("heldOutChecksum")) { // as earlier versions wrote it
                fields.putNull("heldOutChecksum");
            }
            return JSON.treeToValue(fields, State.class);
        } catch (IOException e) {
            throw new IOException(checkpoint.resolve(STATE) + ": " + describe(e), e);
        }
    }

    /**
     * {@return the name of the folder of a learner} It is the learner's name, if that has only characters that every file system allows.
     * Otherwise the other characters are replaced by _, and a checksum is added, so that different names have different folders.
     */
    public static String fileName(Learner learner) {
        final String name = learner.name;
        final String plain = name.replaceAll("[^A-Za-z0-9_+.-]", "_");
        if (plain.equals(name) && name.length() <= LONGEST && !name.matches("\\.+") && !name.equals(STATE)) {
            return name;
        }
        final CRC32 checksum = new CRC32();
        checksum.update(name.getBytes(StandardCharsets.UTF_8));
        return String.format(Locale.ROOT, "%s-%08x", plain.substring(0, Math.min(plain.length(), LONGEST)), checksum.getValue());
    }

    private List<Path> complete() throws IOException {
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        try (Stream<Path> all = Files.list(folder)) {
            return all.filter(p -> p.getFileName().toString().matches(PREFIX + "[0-9]+"))
                    .sorted(Comparator.comparingInt(p -> Integer.parseInt(p.getFileName().toString().substring(PREFIX.length())))).toList();
        }
    }

    /** The message of a JDK IOException is often only a path; its class is the rest of the information. */
    private static String describe(IOException e) {
        if (e instanceof JsonProcessingException json) {
            return json.getOriginalMessage(); // without the lines about where
        }
        return e.getClass() == IOException.class ? e.getMessage() : e.getClass().getSimpleName() + ": " + e.getMessage();
    }

    /** Forces what a folder holds, and its own entries, to the disk. */
    private static void force(Path folder) throws IOException {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, Files::isRegularFile)) {
            for (Path file : files) {
                try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
                    channel.force(true);
                }
            }
        }
        try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** Removes a folder with all that is in it; nothing if it is not there. */
    public static void remove(Path path) throws IOException {
        if (!Files.exists(path)) {
            return;
        }
        try (Stream<Path> all = Files.walk(path)) {
            for (Path p : all.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(p);
            }
        }
    }
}

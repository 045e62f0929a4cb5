package org.teamtr.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import org.teamtr.train.RunLog;

/**
 * Writes the files of a run directory during a run. A line is handed to the operating system whole before a method returns,
 * so a killed run loses at most the line it was writing.
 */
public final class RunWriter implements AutoCloseable {
    private final Path run;
    private OutputStream metrics;
    private OutputStream stages;
    private OutputStream transcripts;
    private OutputStream diagnostics; // null until there is something to write
    private OutputStream ranks; // likewise

    /**
     * Opens the files for appending and makes those that are missing, the folder too. A line that was cut off is taken away.
     *
     * @param run the run directory
     */
    public RunWriter(Path run) throws IOException {
        this.run = run;
        Files.createDirectories(run);
        truncateAfterStage(Integer.MAX_VALUE);
    }

    /** Appends to {@code metrics.jsonl}. */
    public void update(RunLog.Update update) throws IOException {
        append(metrics, update);
    }

    /** Appends to {@code stages.jsonl}. */
    public void stage(RunLog.Stage stage) throws IOException {
        append(stages, stage);
    }

    /** Appends to {@code diagnostics.jsonl}, which is made if it is not there. */
    public void diagnosis(RunLog.Diagnosis diagnosis) throws IOException {
        if (diagnostics == null) {
            diagnostics = open(RunFiles.DIAGNOSTICS, Integer.MAX_VALUE);
        }
        append(diagnostics, diagnosis);
    }

    /** Appends to {@code ranks.jsonl}, which is made if it is not there. */
    public void ranks(RunLog.Ranks entry) throws IOException {
        if (ranks == null) {
            ranks = open(RunFiles.RANKS, Integer.MAX_VALUE);
        }
        append(ranks, entry);
    }

    /** Appends to {@code transcripts.jsonl}. */
    public void transcript(RunLog.Transcript transcript) throws IOException {
        append(transcripts, transcript);
    }

    /** Appends to {@code replacements.jsonl}, and makes it for the first. */
    public void replacement(RunLog.Replacement replacement) throws IOException {
        try (OutputStream out = Files.newOutputStream(run.resolve(RunFiles.REPLACEMENTS), StandardOpenOption.CREATE,
                StandardOpenOption.APPEND)) {
            append(out, replacement);
        }
    }

    /**
     * Drops the lines of later stages, for a run that is resumed from a checkpoint. The lines that stay are not touched. Each file
     * is replaced at once; a program killed between two files has only to call this again.
     *
     * @param stage the last one that stays
     * @throws IOException if a line that is not the last does not parse, naming file and line
     */
    public void truncateAfterStage(int stage) throws IOException {
        close();
        metrics = open(RunFiles.METRICS, stage);
        stages = open(RunFiles.STAGES, stage);
        transcripts = open(RunFiles.TRANSCRIPTS, stage);
        diagnostics = Files.exists(run.resolve(RunFiles.DIAGNOSTICS)) ? open(RunFiles.DIAGNOSTICS, stage) : null;
        ranks = Files.exists(run.resolve(RunFiles.RANKS)) ? open(RunFiles.RANKS, stage) : null;
    }

    /** Writes {@code summary.json}; a reader sees the old one or the new one, never a part. */
    public void summary(RunSummary summary) throws IOException {
        replace(run.resolve(RunFiles.SUMMARY),
                Json.MAPPER.writer().with(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(summary));
    }

    /** Closes the files. */
    @Override
    public void close() throws IOException {
        for (OutputStream out : new OutputStream[] {metrics, stages, transcripts, diagnostics, ranks}) {
            if (out != null) {
                out.close();
            }
        }
    }

    /** Replaces a file at once: a temporary file beside it, then a rename. */
    public static void replace(Path file, byte[] bytes) throws IOException {
        final Path next = file.resolveSibling(file.getFileName() + ".tmp");
        Files.write(next, bytes);
        Files.move(next, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    /** Opens a file for appending, after taking away what is of later stages or cut off. */
    private OutputStream open(String name, int lastStage) throws IOException {
        final Path file = run.resolve(name);
        if (Files.exists(file)) {
            final byte[] bytes = Files.readAllBytes(file);
            final byte[] kept = keep(file, RunFiles.split(bytes), lastStage);
            if (!Arrays.equals(bytes, kept)) {
                replace(file, kept);
            }
        }
        return Files.newOutputStream(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private static byte[] keep(Path file, List<byte[]> lines, int lastStage) throws IOException {
        final ByteArrayOutputStream kept = new ByteArrayOutputStream();
        for (int i = 0; i < lines.size(); i++) {
            final byte[] line = lines.get(i);
            final boolean ended = line[line.length - 1] == '\n';
            try {
                if (Json.MAPPER.readTree(line).path("stage").asInt(Integer.MAX_VALUE) <= lastStage) {
                    kept.write(line);
                    if (!ended) {
                        kept.write('\n');
                    }
                }
            } catch (JsonProcessingException e) {
                if (ended) {
                    throw new IOException(file + ", line " + (i + 1) + ": " + e.getOriginalMessage(), e);
                }
            }
        }
        return kept.toByteArray();
    }

    private static void append(OutputStream out, Object entry) throws IOException {
        final byte[] json = Json.MAPPER.writeValueAsBytes(entry);
        final byte[] line = Arrays.copyOf(json, json.length + 1);
        line[json.length] = '\n';
        out.write(line); // one write of the whole line: the stream has no buffer of its own
    }

    /** Something that writes files. */
    public interface Write {
        void run() throws IOException;
    }

    /** From a listener, which cannot throw what writing throws. */
    public static void io(Write write) {
        try {
            write.run();
        } catch (IOException e) {
            throw new UncheckedIOException(e.getMessage(), e);
        }
    }
}

package org.teamtr.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.teamtr.train.RunLog;

/** Reads the files of a run directory. docs/metrics.md explains every name in them. */
public final class RunFiles {
    /** The resolved configuration. */
    public static final String CONFIG = "config.yaml";
    /** One {@link RunLog.Update} per line. */
    public static final String METRICS = "metrics.jsonl";
    /** One {@link RunLog.Stage} per line. */
    public static final String STAGES = "stages.jsonl";
    /** One {@link RunLog.Diagnosis} per line; there only if something is diagnosed. */
    public static final String DIAGNOSTICS = "diagnostics.jsonl";
    /** The times of each rank in each update; only in runs of several ranks. */
    public static final String RANKS = "ranks.jsonl";
    /** One {@link RunLog.Transcript} per line. */
    public static final String TRANSCRIPTS = "transcripts.jsonl";
    /** One {@link RunLog.Replacement} per line; only in runs with one. */
    public static final String REPLACEMENTS = "replacements.jsonl";
    /** A {@link RunSummary}. */
    public static final String SUMMARY = "summary.json";
    /** What {@link Report} writes. */
    public static final String REPORT = "report.html";

    private RunFiles() {
    }

    /**
     * {@return all updates, the oldest first}
     *
     * @throws IOException if the file is missing or a line is not one, naming file and line
     */
    public static List<RunLog.Update> updates(Path run) throws IOException {
        return lines(run.resolve(METRICS), RunLog.Update.class);
    }

    /**
     * {@return all stages, the oldest first}
     *
     * @throws IOException if the file is missing or a line is not one, naming file and line
     */
    public static List<RunLog.Stage> stages(Path run) throws IOException {
        return lines(run.resolve(STAGES), RunLog.Stage.class);
    }

    /**
     * {@return all diagnoses of updates, the oldest first; none where the run has no such file}
     *
     * @throws IOException if a line is not one, naming file and line
     */
    public static List<RunLog.Diagnosis> diagnoses(Path run) throws IOException {
        final Path file = run.resolve(DIAGNOSTICS);
        return Files.exists(file) ? lines(file, RunLog.Diagnosis.class) : List.of();
    }

    /**
     * {@return the times of each rank in each update, the oldest first; none where one process trained alone}
     *
     * @throws IOException if a line is not one, naming file and line
     */
    public static List<RunLog.Ranks> ranks(Path run) throws IOException {
        final Path file = run.resolve(RANKS);
        return Files.exists(file) ? lines(file, RunLog.Ranks.class) : List.of();
    }

    /**
     * {@return all transcripts, the oldest first}
     *
     * @throws IOException if the file is missing or a line is not one, naming file and line
     */
    public static List<RunLog.Transcript> transcripts(Path run) throws IOException {
        return lines(run.resolve(TRANSCRIPTS), RunLog.Transcript.class);
    }

    /**
     * {@return all replacements of agents, the oldest first; none if there is no such file}
     *
     * @throws IOException if a line is not one, naming file and line
     */
    public static List<RunLog.Replacement> replacements(Path run) throws IOException {
        final Path file = run.resolve(REPLACEMENTS);
        return Files.exists(file) ? lines(file, RunLog.Replacement.class) : List.of();
    }

    /**
     * {@return the summary}
     *
     * @throws IOException if the file is missing or not a summary, naming it
     */
    public static RunSummary summary(Path run) throws IOException {
        final Path file = run.resolve(SUMMARY);
        try {
            return Json.MAPPER.readValue(bytes(file), RunSummary.class);
        } catch (JsonProcessingException e) {
            throw new IOException(file + ": " + e.getOriginalMessage(), e);
        }
    }

    /**
     * The records of a file with one JSON object per line. A last line without its end and not JSON is what a killed program
     * leaves: it is passed over. Everything else that does not parse is an error.
     */
    private static <T> List<T> lines(Path file, Class<T> type) throws IOException {
        final List<T> records = new ArrayList<>();
        final List<byte[]> lines = split(bytes(file));
        for (int i = 0; i < lines.size(); i++) {
            final byte[] line = lines.get(i);
            final boolean ended = line.length > 0 && line[line.length - 1] == '\n';
            try {
                records.add(Json.MAPPER.readValue(line, type));
            } catch (JsonProcessingException e) {
                if (ended) {
                    throw new IOException(file + ", line " + (i + 1) + ": expected a " + type.getSimpleName() + ", given "
                            + e.getOriginalMessage(), e);
                }
            }
        }
        return records;
    }

    /** The lines of a file, each with its '\n'; only the last may lack it. */
    public static List<byte[]> split(byte[] bytes) {
        final List<byte[]> lines = new ArrayList<>();
        int from = 0;
        for (int i = 0; i < bytes.length; i++) {
            if (bytes[i] == '\n' || i == bytes.length - 1) {
                lines.add(Arrays.copyOfRange(bytes, from, i + 1));
                from = i + 1;
            }
        }
        return lines;
    }

    private static byte[] bytes(Path file) throws IOException {
        try {
            return Files.readAllBytes(file);
        } catch (NoSuchFileException e) {
            throw new IOException(file + ": no such file; is its folder a run directory?", e);
        }
    }
}

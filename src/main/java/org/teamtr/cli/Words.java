package org.teamtr.cli;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import org.teamtr.config.ConfigException;
import org.teamtr.distributed.RanksException;
import org.teamtr.team.EpisodeException;
import org.teamtr.torch.OutOfMemory;

/** Texts that several commands print: failures, numbers with their errors, command lines. */
final class Words {
    private Words() {
    }

    /** {@return whether it is an error that a user can fix, for which one line is enough; anything else is a defect} */
    static boolean foreseen(Throwable e) {
        return e instanceof ConfigException || e instanceof IOException || e instanceof UncheckedIOException
                || e instanceof IllegalArgumentException || e instanceof ArithmeticException || e instanceof OutOfMemory
                || e instanceof EpisodeException || e instanceof RanksException;
    }

    /** {@return an error that a user can fix, in one line: the file, and what is wrong with it} */
    static String of(Throwable problem) {
        final Throwable e = problem instanceof UncheckedIOException && problem.getCause() != null ? problem.getCause() : problem;
        if (e instanceof FileSystemException f) {
            final String what = e instanceof AccessDeniedException ? "permission denied"
                    : e instanceof NoSuchFileException ? "there is no such file or folder"
                    : e instanceof FileAlreadyExistsException ? "there is something of this name already"
                    : e instanceof NotDirectoryException ? "expected a folder"
                    : e instanceof DirectoryNotEmptyException ? "expected an empty folder" : "";
            final String reason = f.getReason() != null ? f.getReason() : what;
            return f.getFile() == null ? withRemedy(reason) : f.getFile() + ": " + withRemedy(reason);
        }
        final String message = e.getMessage() == null ? e.toString() : e.getMessage();
        return e.getClass() == IOException.class || !(e instanceof IOException) || e instanceof FileNotFoundException
                ? withRemedy(message) : e.getClass().getSimpleName() + ": " + withRemedy(message);
    }

    /** {@return a message without Jackson's description of a source that is not to be shown, except the position in it} */
    static String plain(String message) {
        return message.replaceAll(" \\(start marker at \\[Source: [^\\]]*]\\)", "")
                .replaceAll("\\s*at \\[Source: [^\\]]*?; (line: [0-9]+, column: [0-9]+)](\\s*\\(through [^)]*\\))?", " ($1)");
    }

    private static String withRemedy(String said) {
        final String reason = plain(said);
        return reason.endsWith("No space left on device") ? reason + "; make room there, or name another folder with --out"
                : reason.endsWith("Read-only file system") || reason.endsWith("permission denied")
                        || reason.endsWith("(Permission denied)") ? reason + "; name a folder that can be written to with --out"
                : reason;
    }

    /** {@return the mean, and behind it its standard error where there is one: of a single prompt there is none} */
    static String plusMinus(String format, double mean, double error) {
        return String.format(Locale.ROOT, format, mean) + (Double.isNaN(error) ? "" : String.format(Locale.ROOT, " +- " + format, error));
    }

    /** {@return a command as it can be typed into a shell} */
    static String command(List<String> words) {
        return words.stream().map(w -> w.matches("[\\p{L}\\p{N}_./+=:,@%^-]+") ? w : "'" + w.replace("'", "'\\''") + "'")
                .collect(Collectors.joining(" "));
    }

    /** {@return the command that resumes a run} */
    static String resume(Path run) {
        return command(List.of("./teamtr", "train", "--resume", run.toString()));
    }

    /** Makes the folder of an option, or throws, naming the option, if there is a file in its place. */
    static Path folder(String option, Path folder) throws IOException {
        for (Path at = folder; at != null; at = at.getParent()) {
            if (Files.exists(at)) {
                if (!Files.isDirectory(at)) {
                    throw new IOException(option + ": expected a folder, given " + folder + (at.equals(folder) ? ", which is a file"
                            : ", and " + at + " is a file"));
                }
                break;
            }
        }
        return Files.createDirectories(folder);
    }
}

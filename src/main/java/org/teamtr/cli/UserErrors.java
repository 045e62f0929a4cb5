package org.teamtr.cli;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import org.teamtr.config.ConfigException;
import org.teamtr.distributed.RanksException;
import org.teamtr.team.EpisodeException;
import org.teamtr.torch.OutOfMemory;

/** Errors that a user can fix, as commands print them. */
final class UserErrors {
    private UserErrors() {
    }

    /** {@return whether it is an error that a user can fix, for which one line is enough; anything else is a defect} */
    static boolean isForeseen(Throwable e) {
        return e instanceof ConfigException || e instanceof IOException || e instanceof UncheckedIOException
                || e instanceof IllegalArgumentException || e instanceof ArithmeticException || e instanceof OutOfMemory
                || e instanceof EpisodeException || e instanceof RanksException;
    }

    /** {@return an error that a user can fix, in one line: the file, and what is wrong with it} */
    static String line(Throwable problem) {
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
    static String withoutSource(String message) {
        return message.replaceAll(" \\(start marker at \\[Source: [^\\]]*]\\)", "")
                .replaceAll("\\s*at \\[Source: [^\\]]*?; (line: [0-9]+, column: [0-9]+)](\\s*\\(through [^)]*\\))?", " ($1)");
    }

    private static String withRemedy(String said) {
        final String reason = withoutSource(said);
        return reason.endsWith("No space left on device") ? reason + "; make room there, or use another folder"
                : reason.endsWith("Read-only file system") ? reason + "; use a folder that can be written to"
                : reason;
    }
}

package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;

/** Command lines that commands print, and the folders that their options name. */
final class CommandLines {
    private CommandLines() {
    }

    /** {@return a command as it can be typed into a shell} */
    static String quoted(List<String> words) {
        return words.stream().map(w -> w.matches("[\\p{L}\\p{N}_./+=:,@%^-]+") ? w : "'" + w.replace("'", "'\\''") + "'")
                .collect(Collectors.joining(" "));
    }

    /** {@return the command that resumes a run} */
    static String resume(Path run) {
        return quoted(List.of("./teamtr", "train", "--resume", run.toString()));
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

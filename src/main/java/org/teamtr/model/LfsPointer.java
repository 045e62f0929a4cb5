package org.teamtr.model;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** A Git LFS pointer: the three lines of text that a clone without Git LFS has in place of a large file. */
public final class LfsPointer {
    private static final byte[] BEGINNING = "version https://git-lfs.github.com/spec/".getBytes(StandardCharsets.UTF_8);

    private LfsPointer() {
    }

    /**
     * Does nothing for any other file.
     *
     * @throws IOException if the file is such a pointer, with the remedy, or is a folder, or cannot be read
     */
    public static void refuse(Path file) throws IOException {
        if (Files.isDirectory(file)) { // which can be opened, and then not be read, without a name in the message
            throw new IOException(file + ": expected a file, given a folder");
        }
        try (InputStream in = Files.newInputStream(file)) {
            if (Arrays.equals(in.readNBytes(BEGINNING.length), BEGINNING)) {
                throw new IOException(file + ": this is a Git LFS pointer, not the file itself; run git lfs pull in its folder, or download"
                        + " the file again");
            }
        }
    }
}

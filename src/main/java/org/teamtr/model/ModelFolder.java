package org.teamtr.model;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;

/** A model's folder in the Hugging Face layout. */
final class ModelFolder {
    private static final String CONTENT = "config.json, tokenizer.json and " + SafeTensors.SINGLE;
    /** A name alone, or one below that of its organisation; {@code models/} is where folders are kept. */
    private static final Pattern HUB_NAME = Pattern.compile("(?!models/)[\\w.-]+(/[\\w.-]+)?");

    private ModelFolder() {
    }

    /** @throws IOException if it is no folder, with what to do about a name on the Hugging Face Hub */
    static void check(Path folder) throws IOException {
        if (Files.isDirectory(folder)) {
            return;
        }
        final String name = folder.toString();
        if (Files.exists(folder)) {
            throw new IOException(name + ": expected a model folder with " + CONTENT + ", given a file");
        }
        final Path last = folder.getFileName();
        throw new IOException(name + ": there is no such folder; a model is read from a folder with " + CONTENT
                + (HUB_NAME.matcher(name).matches() ? ". For the model of this name on the Hugging Face Hub: hf download " + name
                        + " --local-dir " + last + ", then give the folder " + last : ""));
    }
}

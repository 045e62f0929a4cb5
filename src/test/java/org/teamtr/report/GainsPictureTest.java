package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.train.RunLog;

class GainsPictureTest {
    @TempDir
    private Path folder;

    @Test
    void theTableHasEachMeasuredStageAndSumsFromTheFirst() throws IOException {
        final Path run = run("a", stage(0, null, null, null), stage(1, 0.5, 0.25, 0.03), stage(2, 0.25, null, null),
                stage(3, 0.25, -0.5, 0.04));
        GainsPicture.csv(List.of(new GainsPicture.Labelled("n = 4, \"stale\"", run)), folder.resolve("l.csv"));
        // Stage 2 was not measured: what it promised is held against the gain from stage 1 to 3. 3, 4, 5 make a right angle.
        assertEquals("""
                label,stage,predicted_gain,realised_gain,realised_gain_error,predicted_total,realised_total,realised_total_error
                "n = 4, ""stale""\",1,0.5,0.25,0.03,0.5,0.25,0.03
                "n = 4, ""stale""\",3,0.5,-0.5,0.04,1.0,-0.25,0.05
                """, Files.readString(folder.resolve("l.csv")));
    }

    @Test
    void aPanelForEachRunDrawnFromTheTableAlone() throws IOException {
        final Path a = run("a", stage(0, null, null, null), stage(1, 0.5, 0.25, 0.03));
        final Path csv = folder.resolve("l.csv");
        GainsPicture.csv(List.of(new GainsPicture.Labelled("n = 2, fresh", a),
                new GainsPicture.Labelled("n = 2, \"stale\"", a)), csv);
        Files.delete(a.resolve("stages.jsonl"));
        GainsPicture.draw(csv, folder.resolve("l.png"));
        final var image = ImageIO.read(folder.resolve("l.png").toFile());
        assertEquals(2 * 2 * 420, image.getWidth());
        assertEquals(2 * 320, image.getHeight());
        int predicted = 0;
        for (int x = 0; x < image.getWidth(); x++) {
            for (int y = 0; y < image.getHeight(); y++) {
                predicted += (image.getRGB(x, y) & 0xffffff) == 0xe8892b ? 1 : 0;
            }
        }
        assertTrue(predicted > 400, predicted + " pixels of the predicted gain's colour");
        GainsPicture.draw(csv, folder.resolve("l.svg"));
        final String svg = Files.readString(folder.resolve("l.svg"));
        assertTrue(svg.startsWith("<?xml") && svg.contains("width=\"840\"") && svg.contains("rgb(232,137,43)"),
                svg.substring(0, 300));
    }

    @Test
    void errorsNameWhatIsWrong() throws IOException {
        final Path never = run("never", stage(0, null, null, null), stage(1, 0.5, null, null));
        final Path csv = folder.resolve("l.csv");
        assertEquals(never + ": expected stages with a realised gain, given 2 stages without one; eval.every decides how often it is "
                + "measured",
                assertThrows(IOException.class,
                        () -> GainsPicture.csv(List.of(new GainsPicture.Labelled("x", never)), csv)).getMessage());
        assertThrows(IllegalArgumentException.class, () -> new GainsPicture.Labelled("two\nlines", never));
        GainsPicture.csv(List.of(new GainsPicture.Labelled("x", run("a", stage(1, 0.5, 0.25, 0.03)))), csv);
        assertEquals("picture: expected a name that ends in .svg or .png, given l.jpg",
                assertThrows(IllegalArgumentException.class, () -> GainsPicture.draw(csv, Path.of("l.jpg"))).getMessage());
        Files.writeString(csv, Files.readString(csv) + "\"x\",2,0.5\n");
        assertEquals(csv + ", line 3: expected \"label\" and 7 numbers, given \"x\",2,0.5",
                assertThrows(IOException.class, () -> GainsPicture.draw(csv, folder.resolve("l.svg"))).getMessage());
        Files.writeString(csv, "a,b\n");
        assertTrue(assertThrows(IOException.class, () -> GainsPicture.draw(csv, folder.resolve("l.svg"))).getMessage()
                .startsWith(csv + ", line 1: expected \"label,stage,"));
    }

    private Path run(String name, RunLog.Stage... stages) throws IOException {
        final Path run = folder.resolve(name);
        try (RunWriter writer = new RunWriter(run)) {
            for (RunLog.Stage stage : stages) {
                writer.stage(stage);
            }
        }
        return run;
    }

    private static RunLog.Stage stage(int stage, Double predicted, Double realised, Double error) {
        return SyntheticRun.stage(stage, 0, 0, realised == null ? 0 : 8, new RunLog.Gain(predicted, realised, error));
    }
}

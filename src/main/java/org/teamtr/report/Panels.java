package org.teamtr.report;

import java.awt.Color;
import java.awt.Dimension;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.geom.AffineTransform;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import javax.imageio.ImageIO;
import org.apache.batik.svggen.SVGGraphics2D;
import org.knowm.xchart.style.AxesChartStyler;
import org.knowm.xchart.style.Styler;

/** Charts with title and legend, and several of them as one picture. */
public final class Panels {
    static final int WIDTH = 420;
    static final int HEIGHT = 320;
    /** Of a PNG for each unit: XChart's own encoder has one, which looks coarse on today's screens. */
    private static final int PIXELS = 2;

    private Panels() {
    }

    /** Title, legend and axis titles on top of {@link Charts}' looks. */
    public static void dress(AxesChartStyler styler, Color ink, Color paper) {
        Charts.style(styler, ink, paper);
        styler.setXAxisTitleVisible(true).setYAxisTitleVisible(true).setAxisTitleFont(new Font(Font.SANS_SERIF, Font.PLAIN, 12));
        styler.setChartTitleVisible(true).setChartTitleBoxVisible(false)
                .setChartTitleFont(new Font(Font.SANS_SERIF, Font.BOLD, 15)).setChartFontColor(ink)
                .setLegendVisible(true).setLegendPosition(Styler.LegendPosition.OutsideS)
                .setLegendLayout(Styler.LegendLayout.Horizontal).setLegendBorderColor(paper).setLegendBackgroundColor(paper)
                .setLegendFont(new Font(Font.SANS_SERIF, Font.PLAIN, 12));
    }

    /**
     * Writes panels of the same size in rows.
     *
     * @param panels null for a place that stays empty
     * @param picture its name ends in .svg or .png
     * @throws IOException if it cannot be written or there are no fonts to draw with
     * @throws IllegalArgumentException if the picture's name ends otherwise
     */
    public static void write(List<Charts.Drawing> panels, int columns, Path picture) throws IOException {
        check(picture);
        final int rows = (panels.size() + columns - 1) / columns;
        if (ending(picture).equals("svg")) {
            final SVGGraphics2D graphics = Charts.graphics();
            graphics.setSVGCanvasSize(new Dimension(columns * WIDTH, rows * HEIGHT));
            paint(graphics, panels, columns);
            RunWriter.replace(picture, Charts.write(graphics).getBytes(StandardCharsets.UTF_8));
        } else {
            final BufferedImage image = new BufferedImage(PIXELS * columns * WIDTH, PIXELS * rows * HEIGHT,
                    BufferedImage.TYPE_INT_RGB);
            final Graphics2D graphics = image.createGraphics();
            graphics.setPaint(Color.WHITE);
            graphics.fillRect(0, 0, image.getWidth(), image.getHeight());
            graphics.scale(PIXELS, PIXELS);
            paint(graphics, panels, columns);
            graphics.dispose();
            final ByteArrayOutputStream png = new ByteArrayOutputStream();
            ImageIO.write(image, "png", png);
            RunWriter.replace(picture, png.toByteArray());
        }
    }

    /** Throws what {@link #write} would, before a chart is made: that fails too without fonts. */
    public static void check(Path picture) throws IOException {
        if (!List.of("svg", "png").contains(ending(picture))) {
            throw new IllegalArgumentException("picture: expected a name that ends in .svg or .png, given " + picture);
        }
        final String missing = Charts.missing();
        if (missing != null) {
            throw new IOException(missing);
        }
    }

    private static String ending(Path picture) {
        final String name = picture.getFileName().toString().toLowerCase(Locale.ROOT);
        return name.substring(name.lastIndexOf('.') + 1);
    }

    private static void paint(Graphics2D graphics, List<Charts.Drawing> panels, int columns) {
        final AffineTransform origin = graphics.getTransform();
        for (int i = 0; i < panels.size(); i++) {
            if (panels.get(i) != null) {
                graphics.setTransform(origin);
                graphics.translate(i % columns * WIDTH, i / columns * HEIGHT);
                panels.get(i).paint(graphics, WIDTH, HEIGHT);
            }
        }
    }
}

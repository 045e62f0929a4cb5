package org.teamtr.report;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;

/** The version of this program. */
public final class Version {
    private Version() {
    }

    /** {@return the version that the build wrote into {@code version.properties}, for example {@code 0.1.0-SNAPSHOT}} */
    public static String read() {
        final Properties properties = new Properties();
        try (InputStream in = Version.class.getResourceAsStream("/org/teamtr/version.properties")) {
            properties.load(in);
        } catch (IOException | NullPointerException e) {
            throw new IllegalStateException("org/teamtr/version.properties is missing from the class path", e);
        }
        return properties.getProperty("version");
    }
}

package org.teamtr.torch;

import java.io.IOException;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** Tests run in several JVMs at once: none of them opens a library of libtorch that another one is still unpacking. */
public final class UnpackedFirst implements BeforeAllCallback {
    @Override
    public void beforeAll(ExtensionContext context) throws IOException {
        Libtorch.unpack();
    }
}

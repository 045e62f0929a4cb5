package org.teamtr.kernels.internal.presets;

import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * Tells JavaCPP how native/include/teamtr.h becomes {@code org.teamtr.kernels.internal.global.teamtr}.
 *
 * <p>Every function of the C ABI takes numbers only (addresses are integers) and returns a status, so each one becomes exactly
 * one static native method over primitives: no Pointer, no overload, nothing to allocate.
 */
@Properties(
        target = "org.teamtr.kernels.internal.global",
        global = "org.teamtr.kernels.internal.global.teamtr",
        value = {
            // MODIFIED_UTF8_STRING: error words become a String by NewStringUTF, whatever the JVM's default charset.
            @Platform(value = "linux-x86_64", include = "teamtr.h", link = "teamtr", define = "MODIFIED_UTF8_STRING"),
            // Lets the Loader prefer a natives jar with CUDA code when one is on the class path.
            @Platform(value = "linux-x86_64", extension = "-gpu")
        })
@NoException // no C++ exception leaves the library, so the glue needs no try/catch around each call
public class teamtr implements InfoMapper {
    @Override
    public void map(InfoMap infoMap) {
        infoMap
                // The export macro and the include guard are for the C++ compiler, not constants.
                .put(new Info("TEAMTR_API").cppTypes().annotations().cppText(""))
                .put(new Info("TEAMTR_H").skip())
                // An integer, and nothing else: no pointer form.
                .put(new Info("teamtr_address").cast().valueTypes("long"))
                // The functions that return words.
                .put(new Info("teamtr_last_error").javaText("public static native String teamtr_last_error();"))
                .put(new Info("teamtr_cuda_device").javaText("public static native String teamtr_cuda_device(int device);"));
    }
}

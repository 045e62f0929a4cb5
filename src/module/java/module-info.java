/**
 * Kernels over [rows, vocab] logits, and the trainer built on them. The kernels need JavaCPP alone; who uses the trainer on the module
 * path also has its dependencies there (--add-modules ALL-MODULE-PATH). org.teamtr.kernels.internal and the command line are not
 * exported. The module is open because JavaCPP, Jackson and picocli read classes by reflection.
 */
open module org.teamtr {
    requires transitive org.bytedeco.javacpp;
    requires static org.bytedeco.pytorch;
    requires static org.bytedeco.cuda;
    requires static org.bytedeco.openblas;
    requires static java.desktop;
    requires static java.net.http;
    requires static jdk.unsupported;
    requires static com.fasterxml.jackson.databind;
    requires static com.fasterxml.jackson.dataformat.yaml;

    exports org.teamtr.kernels;
    exports org.teamtr.chat;
    exports org.teamtr.config;
    exports org.teamtr.distributed;
    exports org.teamtr.experiment;
    exports org.teamtr.model;
    exports org.teamtr.report;
    exports org.teamtr.task;
    exports org.teamtr.task.environment;
    exports org.teamtr.task.generated;
    exports org.teamtr.task.math;
    exports org.teamtr.task.plan;
    exports org.teamtr.team;
    exports org.teamtr.torch;
    exports org.teamtr.train;
}

package example;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.apache.spark.api.java.function.MapFunction;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.SparkSession;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.TokenKl;
import scala.Tuple2;

/** The exact KL of every row of a table with a column of old and a column of new logits. */
public final class SparkKl {
    private static final int VOCAB = 2_000;
    private static final int ROWS = 300;
    /** Rows that go to the kernel at once. */
    private static final int BATCH = 64;

    private SparkKl() {
    }

    public static void main(String[] args) {
        final SparkSession spark = SparkSession.builder().master("local[2]").appName("token KL").config("spark.ui.enabled", false)
                .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate();
        final Dataset<Token> tokens = spark.range(0, ROWS, 1, 4).map((MapFunction<Long, Token>) SparkKl::token,
                Encoders.bean(Token.class));
        final Dataset<Tuple2<Long, Float>> kl = tokens.mapPartitions((MapPartitionsFunction<Token, Tuple2<Long, Float>>) SparkKl::kl,
                Encoders.tuple(Encoders.LONG(), Encoders.FLOAT()));

        final List<Tuple2<Long, Float>> rows = kl.collectAsList();
        double off = 0;
        for (Tuple2<Long, Float> row : rows) {
            final double expected = expected(row._1());
            off = Math.max(off, Math.abs(row._2() - expected) / expected);
        }
        spark.stop();
        System.out.println(rows.size() + " rows");
        System.out.println(off < 1e-5 ? "every KL as its closed form" : "NOT as the closed form: off by " + off);
        System.exit(rows.size() == ROWS && off < 1e-5 ? 0 : 1);
    }

    /** Of a partition: the arrays of a batch of rows side by side in two direct buffers, one call, one result per row. */
    private static Iterator<Tuple2<Long, Float>> kl(Iterator<Token> tokens) {
        final FloatBuffer oldBuffer = direct(BATCH * VOCAB);
        final FloatBuffer newBuffer = direct(BATCH * VOCAB);
        final List<Tuple2<Long, Float>> results = new ArrayList<>();
        try (Floats kl = Floats.allocate(BATCH)) {
            while (tokens.hasNext()) {
                final List<Long> ids = new ArrayList<>();
                while (tokens.hasNext() && ids.size() < BATCH) {
                    final Token token = tokens.next();
                    oldBuffer.put(ids.size() * VOCAB, token.oldLogits);
                    newBuffer.put(ids.size() * VOCAB, token.newLogits);
                    ids.add(token.id);
                }
                final int n = ids.size();
                TokenKl.oldNew(Logits.of(oldBuffer, n, VOCAB), Logits.of(newBuffer, n, VOCAB), kl.slice(0, n));
                for (int i = 0; i < n; i++) {
                    results.add(new Tuple2<>(ids.get(i), kl.get(i)));
                }
            }
        }
        return results.iterator();
    }

    private static FloatBuffer direct(int floats) {
        return ByteBuffer.allocateDirect(floats * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    /** All tokens are as likely under the old policy; the new one has the logit of token 0 raised. */
    private static Token token(long id) {
        final Token token = new Token();
        token.id = id;
        token.oldLogits = new float[VOCAB];
        token.newLogits = new float[VOCAB];
        token.newLogits[0] = raised(id);
        return token;
    }

    private static float raised(long id) {
        return 0.25f + id / 64f;
    }

    /** log((V - 1 + exp(c)) / V) - c / V. */
    private static double expected(long id) {
        final double c = raised(id);
        return Math.log1p(Math.expm1(c) / VOCAB) - c / VOCAB;
    }

    /** A row of the table: columns {@code id}, {@code oldLogits}, {@code newLogits}. */
    public static final class Token implements java.io.Serializable {
        private static final long serialVersionUID = 1;

        private long id;
        private float[] oldLogits;
        private float[] newLogits;

        public long getId() {
            return id;
        }

        public void setId(long id) {
            this.id = id;
        }

        public float[] getOldLogits() {
            return oldLogits;
        }

        public void setOldLogits(float[] logits) {
            this.oldLogits = logits;
        }

        public float[] getNewLogits() {
            return newLogits;
        }

        public void setNewLogits(float[] logits) {
            this.newLogits = logits;
        }
    }
}

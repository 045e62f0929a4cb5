package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import org.junit.jupiter.api.Test;

class RowProblemsTest {
    private static final String LINE = System.lineSeparator() + "  ";

    @Test
    void oneIsSaidAsItIsAndOfManyTheFirstAndHowMany() {
        final RowProblems problems = new RowProblems();
        assertDoesNotThrow(() -> problems.check(9, "lines cannot be used"));
        problems.add("p.jsonl:1: no answer");
        assertEquals("p.jsonl:1: no answer", assertThrows(IOException.class, () -> problems.check(9, "lines cannot be used")).getMessage());
        for (int i = 2; i <= 5; i++) {
            problems.add("p.jsonl:" + i + ": no answer");
        }
        final String five =
                "of 9 lines cannot be used:" + LINE + "p.jsonl:1: no answer" + LINE + "p.jsonl:2: no answer" + LINE + "p.jsonl:3: no answer"
                        + LINE + "p.jsonl:4: no answer" + LINE + "p.jsonl:5: no answer";
        assertEquals("5 " + five, problems.message(9, "lines cannot be used"));
        problems.add("p.jsonl:6: no answer");
        problems.add("p.jsonl:7: no answer");
        assertEquals(7, problems.count());
        assertEquals("7 " + five + LINE + "and 2 more", problems.message(9, "lines cannot be used"));
    }
}

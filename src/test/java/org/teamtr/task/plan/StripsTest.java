package org.teamtr.task.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.task.Rows.rows;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.teamtr.task.PlanBench;
import org.teamtr.team.Prompt;

class StripsTest {
    private static final Strips BLOCKS = PlanBench.domain(new Prompt("p", "?", null));

    static List<JsonNode> instances() throws IOException {
        return rows("planbench-instances.jsonl");
    }

    private static List<String> plan(JsonNode steps) {
        final List<String> plan = new ArrayList<>();
        steps.forEach(step -> plan.add(step.asText().replaceAll("[()]", "")));
        return plan;
    }

    /** The reference plan is valid, no plan is shorter, and problem and statement turn into each other. */
    @ParameterizedTest
    @MethodSource("instances")
    void problemsOfPlanBench(JsonNode row) {
        final Strips.Problem problem = Pddl.problem(row.get("pddl").asText());
        final List<String> gold = plan(row.get("gold_plan"));
        assertTrue(BLOCKS.run(problem, gold).valid());
        assertEquals(row.get("optimal_length").asInt(), BLOCKS.shortestPlan(problem, 100_000).size());
        assertEquals(row.get("statement").asText(), BlocksEnglish.statement(problem));
        assertEquals(problem, BlocksEnglish.problem("[STATEMENT]\nsomething else\n" + row.get("statement").asText()));
        assertFalse(BLOCKS.run(problem, gold.subList(0, gold.size() - 1)).valid());
        assertFalse(BLOCKS.run(problem, gold.subList(1, gold.size())).valid());
        final String english = String.join("\n", gold.stream().map(BlocksEnglish::say).toList());
        assertEquals(gold, BlocksEnglish.strict("[PLAN]\n" + english + "\n[PLAN END]\nand more", BLOCKS));
        assertEquals(gold, BlocksEnglish.official(english));
        final Strips.Problem done = new Strips.Problem(problem.objects(), BLOCKS.run(problem, gold).state(), problem.goal());
        assertTrue(BLOCKS.run(done, List.of()).valid(), "the empty plan, where the goal holds");
    }

    @Test
    void plansAsTheOfficialParserReadsThem() throws IOException {
        for (JsonNode row : rows("planbench-parser.jsonl")) {
            assertEquals(plan(row.get("official_parse")), BlocksEnglish.official(row.get("text").asText()), row::toString);
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~', value = {"1. Pick up the red block;Stack the red block on top of the blue block. ~ pick-up a;stack a b",
        "(pick-up a);(stack a b) ~ pick-up a;stack a b", "<think>pick up the blue block</think>put down the gold block ~ put-down l",
        "[PLAN];[PLAN END] ~ ''",
        "pick up the red block;because it is clear ~", "pick up the pink block ~", "stack the red block ~", "<think>pick up the red block ~",
        "(fly a) ~"})
    void strictPlans(String reply, String plan) {
        final List<String> read = BlocksEnglish.strict(reply.replace(';', '\n'), BLOCKS);
        if (plan == null) {
            assertNull(read);
        } else {
            assertEquals(plan.replace("'", ""), String.join(";", read));
        }
    }

    @Test
    void theFirstFaultIsNamed() {
        final Strips.Problem problem =
                new Strips.Problem(Set.of("a", "b", "c"), Set.of("clear c", "handempty", "on b a", "on c b", "ontable a"), Set.of("on a c"));
        final List<String> plan = List.of("unstack c b", "pick-up a");
        final Strips.Result result = BLOCKS.run(problem, plan);
        assertEquals(1, result.failedStep());
        assertEquals(Set.of("clear a", "handempty"), result.unmet());
        assertEquals(
                "The above plan is invalid. The following action at step 2 has unmet preconditions:\npick up the red block\nThe unmet preconditions are:\n"
                        + "the red block is clear and the hand is empty",
                BlocksEnglish.fault(result, plan));
        assertEquals("The above plan is invalid. This is the unmet goal condition:\nthe red block is on top of the orange block",
                BlocksEnglish.fault(BLOCKS.run(problem, List.of()), List.of()));
        assertEquals(0, BLOCKS.run(problem, List.of("pick-up d")).failedStep(), "an object that is not there");
        assertEquals(0, BLOCKS.run(problem, List.of("pick-up a b")).failedStep(), "one object too many");
    }

    /** Under other names it is the same world: plans translate. */
    @Test
    void theMysteryIsTheSameWorld() {
        final Strips mystery = PlanBench.domain(new Prompt("p", "?", null, null, Map.of("domain", "mystery_blocksworld")));
        final Strips.Problem problem =
                new Strips.Problem(Set.of("a", "b"), Set.of("province a", "province b", "planet a", "planet b", "harmony"), Set.of("craves a b"));
        assertEquals(List.of("attack a", "overcome a b"), mystery.shortestPlan(problem, 1000));
        assertEquals(List.of("attack a", "overcome a b"), BlocksEnglish.strict("attack object a\novercome object a from object b", mystery));
        assertTrue(mystery.run(problem, List.of("attack a", "overcome a b")).valid());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~',
            value = {"(define (domain d) ~ expected a name or a list",
                "(define (domain d) (:requirements :typing)) ~ requirements: expected :strips alone",
                "(define (domain d) (:action a :parameters (?x - block) :effect (p ?x))) ~ expected names without types",
                "(define (domain d) (:action a :parameters () :precondition (or (p) (q)) :effect (p))) ~ expected a fact",
                "(define (domain d) (:predicates (p ?x)) (:action a :parameters () :effect (p))) ~ expected a fact of the domain's predicates",
                "(define (problem d)) ~ expected (define (domain NAME) ...)", "() ~ expected (define (domain NAME) ...)"})
    void whatIsNoStrips(String text, String error) {
        final String message = assertThrows(IllegalArgumentException.class, () -> Pddl.domain(text)).getMessage();
        assertTrue(message.contains(error), message);
    }
}

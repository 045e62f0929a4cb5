package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.team.KeyedRandom;

class CertificateTest {
    /** The example of docs/metrics.md. */
    @Test
    void byHand() {
        final Certificate certificate = new Certificate(0.2, 1);
        assertEquals(0.442, certificate.c(), 5e-4);
        assertEquals(1.25, certificate.largestGain(), 1e-12);
        final Certificate.Terms terms = certificate.terms(0.06, 2, new Certificate.Zetas(0.001, 0.002, 0.001), Math.sqrt(0.0025),
                Math.sqrt(0.01), 0.5);
        assertEquals(0.0375, terms.lSeq(), 1e-12);
        assertEquals(0.004, terms.zetas().sum(), 1e-12);
        assertEquals(0.0104, terms.bounds().certificate(), 5e-5);
        assertEquals(0.0375 - 0.0442 - 0.005, terms.bounds().certificateRadius(), 5e-5);
        assertFalse(terms.bounds().vacuous());
        assertEquals(0, new Certificate(0, 3).c(), 0); // a single turn has no occupancy to shift
    }

    @ParameterizedTest
    @ValueSource(doubles = {1, 1.5, -0.1, Double.NaN})
    void aDiscountWithoutABoundIsRefused(double gamma) {
        final String message = assertThrows(IllegalArgumentException.class, () -> new Certificate(gamma, 1)).getMessage();
        assertTrue(message.startsWith("certificate.gamma: expected 0 or more and less than 1, given " + gamma), message);
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, -1, Double.POSITIVE_INFINITY, Double.NaN})
    void advantagesWithoutABoundAreRefused(double aMax) {
        assertTrue(assertThrows(IllegalArgumentException.class, () -> new Certificate(0.5, aMax)).getMessage()
                .startsWith("certificate.a_max"));
    }

    /** At the usual discount the bound says nothing, and says so. */
    /** Prop. 3.9: a member with a larger surrogate or a smaller KL makes the certificate larger, by as much as Thm 3.4 says. */
    @Test
    void proposition39ABetterMemberTightensTheCertificate() {
        final Certificate certificate = new Certificate(0.5, 2);
        final Certificate.Zetas zetas = new Certificate.Zetas(0.001, 0.002, 0.003);
        for (double surrogate = -0.1; surrogate < 0.5; surrogate += 0.1) {
            for (double kl = 0.0001; kl < 1; kl *= 3) {
                final double bound = certificate.terms(surrogate, 4, zetas, Math.sqrt(kl), Math.sqrt(kl), 1).bounds().certificate();
                final double better = certificate.terms(surrogate + 0.05, 4, zetas, Math.sqrt(kl), Math.sqrt(kl), 1).bounds().certificate();
                final double nearer = certificate.terms(surrogate, 4, zetas, Math.sqrt(kl) / 2, Math.sqrt(kl), 1).bounds().certificate();
                assertEquals(0.05 / 4 / 0.5, better - bound, 1e-12);
                assertEquals(Math.sqrt(2) * 0.5 * 2 / 0.25 * Math.sqrt(kl) / 2, nearer - bound, 1e-12);
            }
        }
    }

    @Test
    void vacuousAtTheUsualDiscount() {
        final Certificate usual = new Certificate(0.99, 5);
        assertEquals(70004, usual.c(), 0.5);
        assertEquals(21001, 3 * usual.c() * Math.sqrt(0.01), 0.5);
        assertEquals(500, usual.largestGain(), 1e-9);
        assertTrue(usual.vacuous(Math.sqrt(0.01)));
        assertFalse(new Certificate(0.2, 1).vacuous(Math.sqrt(0.01)));
        // sqrt(2 KL) gamma > 1 - gamma, whatever A_max is
        for (double gamma : new double[] {0.1, 0.5, 0.9}) {
            final double edge = (1 - gamma) / gamma / Math.sqrt(2);
            assertTrue(new Certificate(gamma, 7).vacuous(1.0001 * edge));
            assertFalse(new Certificate(gamma, 7).vacuous(0.9999 * edge));
        }
    }

    /** With exact ingredients it is a bound, on every team, and a vacuous one is never positive. */
    @Test
    void boundsExactGains() {
        int meaningful = 0;
        for (int t = 0; t < 300; t++) {
            final SplittableRandom random = KeyedRandom.of(41, t);
            final ExactTeam world = ExactTeam.random(2 + t % 4, random);
            final ExactTeam.Table[] team = new ExactTeam.Table[world.agents];
            for (int j = 0; j < team.length; j++) {
                team[j] = world.table(1, random);
            }
            final ExactTeam.Table[] then = ExactTeam.with(team, 0, team[0].moved(random.nextDouble(0.5), random));
            final double[] d = world.occupancy(team);
            final double[][] a = world.advantages(team);
            final Certificate certificate = new Certificate(world.gamma, ExactTeam.largest(a));
            final double lSeq = world.surrogate(d, then, a);
            final double roots = Math.sqrt(world.kl(d, team, then));
            final double bound = certificate.bound(lSeq, roots, 0);
            assertTrue(world.value(then) - world.value(team) >= bound - 1e-11);
            assertTrue(lSeq <= certificate.largestGain() + 1e-11);
            assertTrue(!certificate.vacuous(roots) || bound < 0);
            meaningful += certificate.vacuous(roots) ? 0 : 1;
        }
        assertTrue(meaningful > 50, meaningful + " bounds that are not vacuous");
    }
}

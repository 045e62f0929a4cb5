/**
 * Experiments: many runs at several points and seeds, their data, claims about them and the page made of both; and the built-in
 * game with exact tables instead of models ({@link org.teamtr.experiment.ExactRelay}).
 */
package org.teamtr.experiment;

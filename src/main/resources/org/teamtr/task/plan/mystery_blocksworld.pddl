; The blocks world under names that say nothing.
(define (domain mystery_blocksworld)
  (:requirements :strips)
  (:predicates (province ?x) (planet ?x) (harmony) (pain ?x) (craves ?x ?y))
  (:action attack
    :parameters (?x)
    :precondition (and (province ?x) (planet ?x) (harmony))
    :effect (and (pain ?x) (not (province ?x)) (not (planet ?x)) (not (harmony))))
  (:action succumb
    :parameters (?x)
    :precondition (pain ?x)
    :effect (and (province ?x) (harmony) (planet ?x) (not (pain ?x))))
  (:action overcome
    :parameters (?x ?y)
    :precondition (and (province ?y) (pain ?x))
    :effect (and (harmony) (province ?x) (craves ?x ?y) (not (province ?y)) (not (pain ?x))))
  (:action feast
    :parameters (?x ?y)
    :precondition (and (craves ?x ?y) (province ?x) (harmony))
    :effect (and (pain ?x) (province ?y) (not (craves ?x ?y)) (not (province ?x)) (not (harmony)))))

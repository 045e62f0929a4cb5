package org.teamtr.task.math;

import java.util.HashMap;
import java.util.Map;

/** Units under one name each, so that 5 cm is not 5 m. */
final class Units {
    private static final Map<String, String> NAMES = new HashMap<>();

    static {
        for (String unit : new String[] {"mm millimeter millimeters millimetre millimetres", "cm centimeter centimeters centimetre centimetres",
            "m meter meters metre metres", "km kilometer kilometers kilometre kilometres", "in inch inches", "ft foot feet", "yd yard yards",
            "mi mile miles", "g gram grams", "kg kilogram kilograms", "lb lbs pound pounds", "oz ounce ounces", "s sec secs second seconds",
            "min mins minute minutes", "h hr hrs hour hours", "day days", "week weeks", "month months", "year years", "cent cents",
            "dollar dollars usd", "euro euros eur", "liter liters litre litres", "ml milliliter milliliters", "degree degrees deg",
            "radian radians rad", "percent"}) {
            final String[] names = unit.split(" ");
            for (String name : names) {
                NAMES.put(name, names[0]);
            }
        }
    }

    private Units() {
    }

    /** {@return the one name of a unit, or null for none and for one that is not known} */
    static String of(String unit) {
        return unit == null ? null : NAMES.get(unit.replaceFirst("^(?:square|cubic|sq|cu) ", ""));
    }
}

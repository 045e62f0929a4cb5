package org.teamtr.task.environment;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.model.PythonText;
import org.teamtr.task.math.MathAnswer;

/**
 * The shop of tau-bench's retail tasks (Yao et al., 2024): users, orders and products, and sixteen tools that read and change them. A
 * tool's result equals the published tool's byte for byte.
 *
 * <p>An object is the state of one episode; not for several threads.
 */
public final class RetailShop {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final TypeReference<LinkedHashMap<String, Object>> DATABASE = new TypeReference<>() {};

    private final Map<String, Object> database;

    private RetailShop(Map<String, Object> database) {
        this.database = database;
    }

    /** {@return the shop of a JSON file with {@code users}, {@code orders} and {@code products}} */
    public static RetailShop read(Path file) throws IOException {
        return new RetailShop(JSON.readValue(Files.readAllBytes(file), DATABASE));
    }

    /** {@return a shop of its own in the same state} */
    public RetailShop copy() {
        return new RetailShop(map(copy(database)));
    }

    private static Object copy(Object value) {
        if (value instanceof Map<?, ?> map) {
            final Map<String, Object> copy = new LinkedHashMap<>();
            map.forEach((key, inner) -> copy.put(key.toString(), copy(inner)));
            return copy;
        }
        return value instanceof List<?> list ? new ArrayList<>(list.stream().map(RetailShop::copy).toList()) : value;
    }

    /** {@return whether two shops are in the same state}; orders of keys do not count, those of lists do, and 1 is not 1.0 */
    public boolean sameAs(RetailShop other) {
        return PythonJson.dumps(sorted(database)).equals(PythonJson.dumps(sorted(other.database)));
    }

    private static Object sorted(Object value) {
        if (value instanceof Map<?, ?> map) {
            final Map<String, Object> copy = new TreeMap<>();
            map.forEach((key, inner) -> copy.put(key.toString(), sorted(inner)));
            return copy;
        }
        return value instanceof List<?> list ? list.stream().map(RetailShop::sorted).toList() : value;
    }

    /** {@return the database's value under a path of keys}, for tests; null for none */
    Object at(String... path) {
        Object at = database;
        for (String key : path) {
            at = at instanceof Map<?, ?> map ? map.get(key) : null;
        }
        return at;
    }

    /** {@return a tool's result; null if there is no such tool} */
    public String call(String tool, Map<String, Object> a) {
        try {
            return switch (tool) {
                case "calculate" -> calculate(text(a, "expression"));
                case "cancel_pending_order" -> cancel(text(a, "order_id"), text(a, "reason"));
                case "exchange_delivered_order_items" ->
                        exchange(text(a, "order_id"), texts(a, "item_ids"), texts(a, "new_item_ids"), text(a, "payment_method_id"));
                case "find_user_id_by_email" -> byEmail(text(a, "email"));
                case "find_user_id_by_name_zip" -> byName(text(a, "first_name"), text(a, "last_name"), text(a, "zip"));
                case "get_order_details" -> details("orders", text(a, "order_id"), "order");
                case "get_product_details" -> details("products", text(a, "product_id"), "product");
                case "get_user_details" -> details("users", text(a, "user_id"), "user");
                case "list_all_product_types" -> productTypes();
                case "modify_pending_order_address" -> orderAddress(a);
                case "modify_pending_order_items" ->
                        modify(text(a, "order_id"), texts(a, "item_ids"), texts(a, "new_item_ids"), text(a, "payment_method_id"));
                case "modify_pending_order_payment" -> payment(text(a, "order_id"), text(a, "payment_method_id"));
                case "modify_user_address" -> userAddress(a);
                case "return_delivered_order_items" -> giveBack(text(a, "order_id"), texts(a, "item_ids"), text(a, "payment_method_id"));
                case "think" -> "";
                case "transfer_to_human_agents" -> "Transfer successful";
                default -> null;
            };
        } catch (IllegalArgumentException e) {
            return "Error: " + e.getMessage();
        }
    }

    private static String text(Map<String, Object> arguments, String name) {
        if (!(arguments.get(name) instanceof String text)) {
            throw new IllegalArgumentException("expected a text " + name + ", given " + arguments.get(name));
        }
        return text;
    }

    private static List<String> texts(Map<String, Object> arguments, String name) {
        if (!(arguments.get(name) instanceof List<?> list) || !list.stream().allMatch(String.class::isInstance)) {
            throw new IllegalArgumentException("expected a list of texts " + name + ", given " + arguments.get(name));
        }
        return list.stream().map(String::valueOf).toList();
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Object value) {
        return (Map<String, Object>) value;
    }

    @SuppressWarnings("unchecked")
    private static List<Object> list(Object value) {
        return (List<Object>) value;
    }

    private Map<String, Object> record(String kind, String id, String name) {
        final Object found = map(database.get(kind)).get(id);
        if (found == null) {
            throw new IllegalArgumentException(name + " not found");
        }
        return map(found);
    }

    private Map<String, Object> order(String id, String status, String otherwise) {
        final Map<String, Object> order = record("orders", id, "order");
        if (!status.equals(order.get("status"))) {
            throw new IllegalArgumentException(otherwise);
        }
        return order;
    }

    private static double number(Object value) {
        return ((Number) value).doubleValue();
    }

    /** As Python rounds to two decimals. */
    static double cents(double value) {
        return new BigDecimal(value).setScale(2, RoundingMode.HALF_EVEN).doubleValue();
    }

    private static String calculate(String expression) {
        if (!expression.matches("[0-9+\\-*/(). ]*")) {
            throw new IllegalArgumentException("invalid characters in expression");
        }
        final String value = MathAnswer.value(expression);
        if (value == null) {
            throw new IllegalArgumentException("invalid expression");
        }
        final String[] fraction = value.split("/");
        final double top = Double.parseDouble(fraction[0]);
        return PythonText.number(cents(fraction.length == 1 ? top : top / Double.parseDouble(fraction[1])), "Infinity", "NaN");
    }

    private String details(String kind, String id, String name) {
        return PythonJson.dumps(record(kind, id, name));
    }

    private String byEmail(String email) {
        for (Map.Entry<String, Object> user : map(database.get("users")).entrySet()) {
            if (email.equalsIgnoreCase(String.valueOf(map(user.getValue()).get("email")))) {
                return user.getKey();
            }
        }
        throw new IllegalArgumentException("user not found");
    }

    private String byName(String first, String last, String zip) {
        for (Map.Entry<String, Object> user : map(database.get("users")).entrySet()) {
            final Map<String, Object> name = map(map(user.getValue()).get("name"));
            if (first.equalsIgnoreCase(String.valueOf(name.get("first_name"))) && last.equalsIgnoreCase(String.valueOf(name.get("last_name")))
                    && zip.equals(map(map(user.getValue()).get("address")).get("zip"))) {
                return user.getKey();
            }
        }
        throw new IllegalArgumentException("user not found");
    }

    private String productTypes() {
        final Map<String, Object> types = new TreeMap<>();
        map(database.get("products")).values().forEach(p -> types.put(String.valueOf(map(p).get("name")), map(p).get("product_id")));
        return PythonJson.dumps(types);
    }

    private static Map<String, Object> address(Map<String, Object> a) {
        final Map<String, Object> address = new LinkedHashMap<>();
        for (String part : List.of("address1", "address2", "city", "state", "country", "zip")) {
            address.put(part, text(a, part));
        }
        return address;
    }

    private String orderAddress(Map<String, Object> a) {
        final Map<String, Object> order = order(text(a, "order_id"), "pending", "non-pending order cannot be modified");
        order.put("address", address(a));
        return PythonJson.dumps(order);
    }

    private String userAddress(Map<String, Object> a) {
        final Map<String, Object> user = record("users", text(a, "user_id"), "user");
        user.put("address", address(a));
        return PythonJson.dumps(user);
    }

    private static Map<String, Object> transaction(String type, Object amount, String method) {
        final Map<String, Object> transaction = new LinkedHashMap<>();
        transaction.put("transaction_type", type);
        transaction.put("amount", amount);
        transaction.put("payment_method_id", method);
        return transaction;
    }

    private Map<String, Object> methods(Map<String, Object> order) {
        return map(record("users", String.valueOf(order.get("user_id")), "user").get("payment_methods"));
    }

    private void pay(Map<String, Object> order, String method, double amount) {
        final Map<String, Object> card = map(methods(order).get(method));
        card.put("balance", cents(number(card.get("balance")) - amount));
    }

    private String cancel(String id, String reason) {
        final Map<String, Object> order = order(id, "pending", "non-pending order cannot be cancelled");
        if (!List.of("no longer needed", "ordered by mistake").contains(reason)) {
            throw new IllegalArgumentException("invalid reason");
        }
        final List<Object> refunds = new ArrayList<>();
        for (Object paid : list(order.get("payment_history"))) {
            final String method = String.valueOf(map(paid).get("payment_method_id"));
            refunds.add(transaction("refund", map(paid).get("amount"), method));
            if (method.contains("gift_card")) {
                pay(order, method, -number(map(paid).get("amount")));
            }
        }
        order.put("status", "cancelled");
        order.put("cancel_reason", reason);
        list(order.get("payment_history")).addAll(refunds);
        return PythonJson.dumps(order);
    }

    /** The items of an order, each requested at most as often as the order has it. */
    private static void checkItems(Map<String, Object> order, List<String> items, String otherwise) {
        final List<String> all = list(order.get("items")).stream().map(item -> String.valueOf(map(item).get("item_id"))).toList();
        for (String item : items) {
            if (Collections.frequency(items, item) > Collections.frequency(all, item)) {
                throw new IllegalArgumentException(otherwise == null ? item + " not found" : otherwise);
            }
        }
    }

    private static Map<String, Object> item(Map<String, Object> order, String id) {
        return list(order.get("items")).stream().map(RetailShop::map).filter(item -> id.equals(item.get("item_id"))).findFirst().orElseThrow(
                () -> new IllegalArgumentException(id + " not found"));
    }

    private Map<String, Object> variant(Map<String, Object> item, String id) {
        final Object variant = map(record("products", String.valueOf(item.get("product_id")), "product").get("variants")).get(id);
        if (variant == null || !Boolean.TRUE.equals(map(variant).get("available"))) {
            throw new IllegalArgumentException("new item " + id + " not found or available");
        }
        return map(variant);
    }

    /** What the new items cost more than the old ones. */
    private double difference(Map<String, Object> order, List<String> items, List<String> others) {
        checkItems(order, items, null);
        if (items.size() != others.size()) {
            throw new IllegalArgumentException("the number of items to be exchanged should match");
        }
        double difference = 0;
        for (int i = 0; i < items.size(); i++) {
            final Map<String, Object> item = item(order, items.get(i));
            difference += number(variant(item, others.get(i)).get("price")) - number(item.get("price"));
        }
        return difference;
    }

    private Map<String, Object> method(Map<String, Object> order, String id, double amount, String what) {
        final Object method = methods(order).get(id);
        if (method == null) {
            throw new IllegalArgumentException("payment method not found");
        }
        if ("gift_card".equals(map(method).get("source")) && number(map(method).get("balance")) < amount) {
            throw new IllegalArgumentException("insufficient gift card balance to pay for the " + what);
        }
        return map(method);
    }

    private String exchange(String id, List<String> items, List<String> others, String method) {
        final Map<String, Object> order = order(id, "delivered", "non-delivered order cannot be exchanged");
        final double difference = cents(difference(order, items, others)); // rounded here, and not where items are modified
        method(order, method, difference, "price difference");
        order.put("status", "exchange requested");
        order.put("exchange_items", new ArrayList<>(items.stream().sorted().toList()));
        order.put("exchange_new_items", new ArrayList<>(others.stream().sorted().toList()));
        order.put("exchange_payment_method_id", method);
        order.put("exchange_price_difference", difference);
        return PythonJson.dumps(order);
    }

    private String modify(String id, List<String> items, List<String> others, String method) {
        final Map<String, Object> order = order(id, "pending", "non-pending order cannot be modified");
        final double difference = difference(order, items, others);
        final Map<String, Object> card = method(order, method, difference, "new item");
        list(order.get("payment_history")).add(transaction(difference > 0 ? "payment" : "refund", Math.abs(difference), method));
        if ("gift_card".equals(card.get("source"))) {
            pay(order, method, difference);
        }
        for (int i = 0; i < items.size(); i++) {
            final Map<String, Object> item = item(order, items.get(i));
            final Map<String, Object> variant = variant(item, others.get(i));
            item.put("item_id", others.get(i));
            item.put("price", variant.get("price"));
            item.put("options", copy(variant.get("options")));
        }
        order.put("status", "pending (item modified)");
        return PythonJson.dumps(order);
    }

    private String payment(String id, String method) {
        final Map<String, Object> order = order(id, "pending", "non-pending order cannot be modified");
        method(order, method, Double.NEGATIVE_INFINITY, "order");
        final List<Object> history = list(order.get("payment_history"));
        if (history.size() > 1 || !"payment".equals(map(history.get(0)).get("transaction_type"))) {
            throw new IllegalArgumentException("there should be exactly one payment for a pending order");
        }
        final String old = String.valueOf(map(history.get(0)).get("payment_method_id"));
        if (old.equals(method)) {
            throw new IllegalArgumentException("the new payment method should be different from the current one");
        }
        final Object amount = map(history.get(0)).get("amount");
        final Map<String, Object> card = method(order, method, number(amount), "order");
        history.add(transaction("payment", amount, method));
        history.add(transaction("refund", amount, old));
        if ("gift_card".equals(card.get("source"))) {
            pay(order, method, number(amount));
        }
        if (old.contains("gift_card")) {
            pay(order, old, -number(amount));
        }
        return PythonJson.dumps(order);
    }

    private String giveBack(String id, List<String> items, String method) {
        final Map<String, Object> order = order(id, "delivered", "non-delivered order cannot be returned");
        method(order, method, Double.NEGATIVE_INFINITY, "order");
        if (!method.contains("gift_card") && !method.equals(map(list(order.get("payment_history")).get(0)).get("payment_method_id"))) {
            throw new IllegalArgumentException("payment method should be either the original payment method or a gift card");
        }
        checkItems(order, items, "some item not found");
        order.put("status", "return requested");
        order.put("return_items", new ArrayList<>(items.stream().sorted().toList()));
        order.put("return_payment_method_id", method);
        return PythonJson.dumps(order);
    }
}

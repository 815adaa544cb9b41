/// Names of functions as Lambda has them.
public enum FunctionName {
    /// The most bytes of a name.
    public static let bytesMax = 64

    /// Whether a name is acceptable: letters, digits, `-` and `_`, 1 to 64.
    public static func isValid(_ name: String) -> Bool {
        (1...bytesMax).contains(name.utf8.count)
            && name.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 95 }
    }

    /// The account that all functions belong to.
    static let account = "000000000000"

    /// A function's resource name.
    public static func resourceName(_ name: String) -> String { "arn:aws:lambda:local:\(account):function:\(name)" }
}

/// A function as requests name it: a name, a part of a resource name or a whole one, and a qualifier.
struct FunctionReference: Hashable, Sendable {
    var name: String
    /// A version or alias; nil: none is named.
    var qualifier: String?

    /// Takes a text apart; nil when it names no function.
    init?(_ text: String) {
        var parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        if parts.count >= 7, parts[0] == "arn", parts[2] == "lambda", parts[5] == "function" {
            parts.removeFirst(6)
        } else if parts.count >= 3, parts[1] == "function", parts[0].utf8.allSatisfy({ (48...57).contains($0) }) {
            parts.removeFirst(2)
        }
        guard let first = parts.first, FunctionName.isValid(first), parts.count <= 2 else { return nil }
        name = first
        qualifier = parts.count == 2 ? parts[1] : nil
    }
}

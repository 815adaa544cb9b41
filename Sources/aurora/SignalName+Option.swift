import ArgumentParser
import Groups

extension SignalName {
    /// Reads an option's value.
    static func option(_ text: String) throws -> SignalName {
        do throws(GroupError) { return try SignalName(parsing: text) } catch { throw ValidationError(error.description) }
    }
}

import ArgumentParser
import Groups

extension TimeSpan {
    /// Reads an option's value as seconds.
    static func option(_ text: String) throws -> Double {
        do throws(GroupError) { return try seconds(parsing: text) } catch { throw ValidationError(error.description) }
    }

    /// The same in whole seconds, rounded up: who asks for some time gets it.
    static func wholeOption(_ text: String) throws -> Int { Int(try option(text).rounded(.up)) }
}

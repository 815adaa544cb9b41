import ArgumentParser
import FoundationEssentials
import Groups
import Linux

/// What every command needs of its surroundings.
enum CommandContext {
    /// The directories of this user and environment.
    static var data: DataDirectory { DataDirectory(environment: OwnProcess.environment) }
    /// Refuses a runtime directory that others can get at, and closes what older versions left open.
    static func secure() throws(GroupError) {
        data.tighten()
        try data.checkRuntime()
    }

    /// The groups in them.
    static var store: GroupStore { GroupStore(data) }

    /// The files of a group that exists.
    static func group(_ name: String) throws(GroupError) -> GroupDirectory { try store.find(try GroupName(name)) }

    /// The store that has a group's history: its own, or that of this environment when its files are gone.
    static func storePath(of name: GroupName) -> String {
        guard let configuration = try? store.find(name).configuration() else { return data.storePath }
        return data.storePath(of: configuration)
    }

    /// A group that runs, for commands that speak to it.
    static func runningGroup(_ name: String) throws(GroupError) -> GroupDirectory {
        let directory = try group(name)
        let status = try directory.status()
        switch status.state {
        case .running: return directory
        case .paused: throw GroupError(.notRunning, "Group \(name) is paused", remedy: "Let it go on with: aurora resume \(name)")
        case .unknown:
            throw GroupError(
                .host, "Group \(name) does not answer, and what it wrote down of itself cannot be read",
                remedy: "End its machine with: aurora kill \(name). What is in its history stays, to be restored.")
        default: throw GroupError(.notRunning, "Group \(name) is not running but \(status.state.rawValue)")
        }
    }

    /// Runs something for each of several groups; one failure decides the exit code, and none hides the others.
    ///
    /// A failure names its group, also where its message does not.
    static func forEach(_ names: [String], _ body: (String) throws -> Void) throws {
        var failed = false
        for name in names {
            do {
                try body(name)
            } catch {
                failed = true
                // What has an exit code has told the reason itself.
                if error is ExitCode { continue }
                let text = "\(error)"
                let isNamed = text.split(whereSeparator: { !($0.isLetter || $0.isNumber || "_.-".contains($0)) }).contains { $0 == name }
                Terminal.writeError("error: \(isNamed ? "" : "\(name): ")\(text)\n")
            }
        }
        if failed { throw ExitCode(ExitCodes.failure) }
    }

    /// Turns a value that is not acceptable into an error of usage.
    static func validate(_ body: () throws(GroupError) -> Void) throws {
        do throws(GroupError) { try body() } catch { throw ValidationError(error.description) }
    }

    /// Standard JSON of Aurora's commands.
    ///
    /// - Parameter isOneLine: one of many that are read line by line, rather than by people.
    static func json(_ value: some Encodable, isOneLine: Bool = false) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            isOneLine ? [.sortedKeys, .withoutEscapingSlashes] : [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return escaped(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// JSON in which no text can steer a terminal that it is shown on: the encoder leaves all but C0 as it is.
    private static func escaped(_ json: String) -> String {
        func steers(_ scalar: Unicode.Scalar) -> Bool { scalar != "\n" && String(scalar).visibleLine != String(scalar) }
        guard json.unicodeScalars.contains(where: steers) else { return json }
        return json.unicodeScalars.map { scalar in
            steers(scalar) ? String(scalar).utf16.map(escape).joined() : String(scalar)
        }.joined()
    }

    private static func escape(_ unit: UInt16) -> String {
        let digits = String(unit, radix: 16)
        return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }
}

extension CommandContext {
    /// An object of a stream: one line.
    static func jsonLine(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// How a listing is written.
enum ListFormat: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
}

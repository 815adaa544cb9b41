internal import CLinux
internal import Linux

/// A build under way: the lock, a private directory beside the target, and a log.
///
/// Invariants: nothing is visible under the target's name before it is complete and on the disk; a build that dies
/// leaves only its private directory, which the next build of the same name removes first.
struct BuildArea {
    /// What is built, in words, for messages.
    let what: String
    /// The private directory; `result` below it becomes the target.
    let directory: String
    /// The directory that is published.
    var result: String { "\(directory)/result" }
    /// Where recipes say what they do.
    let log: String
    private let lock: BuildLock
    private let recipes: Recipes
    private let progress: BuildProgress

    /// The most that is read of the end of a log, in bytes.
    private static let logTailMax = 64 << 10
    /// A disk with less than this left is taken for full, in bytes.
    private static let freeBytesMin = 1 << 20

    /// Enters an area whose lock is held: removes what a dead build left and starts afresh.
    init(
        what: String, name: String, parent: String, logs: String, lock: BuildLock, recipes: Recipes, progress: @escaping BuildProgress
    ) throws(ImageError) {
        self.progress = progress
        self.what = what
        self.lock = lock
        self.recipes = recipes
        directory = Self.path(name: name, parent: parent)
        log = "\(logs)/\(name).log"
        do {
            try Files.removeTree(directory)
            try Files.makeDirectory(result)
            try Files.makeDirectory(logs)
            Files.makePrivate([parent, logs])
            try Files.write([], to: log)
            try recipes.write(to: "\(directory)/recipes")
        } catch {
            abandon()
            throw explained(error)
        }
    }

    /// The private directory of a name; a leading dot keeps it out of listings and of valid names.
    static func path(name: String, parent: String) -> String { "\(parent)/.building-\(name)" }
    /// The lock file of a name.
    static func lockPath(name: String, parent: String) -> String { "\(parent)/.lock-\(name)" }

    /// Runs one script of the recipes with the result's error messages in the log.
    ///
    /// - Parameter isWatched: whether what it says of its steps, and the bytes it writes, are told while it runs.
    func runRecipe(
        _ script: String, _ arguments: [String], input: String = "/dev/null", output: String? = nil, isWatched: Bool = false
    ) throws(ImageError) {
        // A recipe whose starter is killed dies with it (and, where it has name spaces of its own, with all it started).
        let command = ["setpriv", "--pdeathsig", "KILL", "sh", "\(directory)/recipes/\(script)"] + arguments
        guard isWatched else { return try run(command, input: input, output: output) }
        try RecipeWatch(log: log, directory: directory, progress: progress).during { () throws(ImageError) in
            try run(command, input: input, output: output)
        }
    }

    /// Runs a program that must succeed.
    func run(_ command: [String], input: String = "/dev/null", output: String? = nil) throws(ImageError) {
        try check(try ChildProcess(command: command, input: input, output: output, log: log, lock: lock).run())
    }

    private func check(_ end: ChildProcess.End) throws(ImageError) {
        switch end {
        case .exited(0): return
        case .exited(let status): throw failure("a step of it ended with status \(status)")
        case .killed(let signal): throw failure("it was killed by signal \(signal)", preferringLog: false)
        }
    }

    /// The hash of a file in hexadecimal.
    func digest(of path: String, _ algorithm: ContentDigest.Algorithm = .sha256) throws(ImageError) -> String {
        try run(Self.hashing(algorithm), input: path, output: hash)
        return try readHash()
    }

    /// The digest of a disk's contents, in hexadecimal.
    func diskDigest(of path: String) throws(ImageError) -> String {
        let writer: SharedDescriptor
        var reader: SharedDescriptor?
        do throws(SystemError) { (writer, reader) = try Socket.pair() } catch { throw .system(error) }
        var process = ChildProcess(command: Self.hashing(.sha256), output: hash, log: log, lock: lock)
        process.inputDescriptor = reader?.rawValue
        let child = try process.start()
        // Only the program reads now: when it dies, writing to it fails.
        reader = nil
        var failure: ImageError?
        do throws(ImageError) { try DiskDigest.feed(path, to: writer) } catch { failure = error }
        _ = clinux_shutdown(writer.rawValue, Int32(SHUT_WR))
        try check(ChildProcess.wait(for: child))
        if let failure { throw failure }
        return try readHash()
    }

    private var hash: String { "\(directory)/digest" }

    /// Hashes standard input, by openssl where it is there: four times faster than coreutils.
    private static func hashing(_ algorithm: ContentDigest.Algorithm) -> [String] {
        let name = algorithm.rawValue
        return ["sh", "-c", "if command -v openssl >/dev/null; then exec openssl dgst -\(name) -r; else exec \(name)sum; fi"]
    }

    private func readHash() throws(ImageError) -> String {
        String(decoding: try Files.read(hash, lengthMax: 4096).prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self)
    }

    /// Makes the result durable and visible under its name, and cleans up.
    func publish(as target: String) throws(ImageError) {
        do {
            try Files.makeTreePrivate(result)
            try Files.syncTree(result)
            try Files.publish(result, as: target)
            try Files.sync(String(target[..<(target.lastIndex(of: "/") ?? target.endIndex)]))
        } catch { throw explained(error) }
        abandon()
    }

    /// Removes the log as well: of what was refused at once nothing is worth keeping.
    func forget() {
        abandon()
        try? Files.removeTree(log)
    }

    /// Removes the private directory; a part that resists is removed by the next build.
    func abandon() { try? Files.removeTree(directory) }

    /// A full disk shows as many different failures; all of them are told as what they are.
    func explained(_ error: ImageError) -> ImageError {
        if case .system(let failure) = error, failure.errno == .noSpace { return .diskFull(what: what, path: directory) }
        return error
    }

    private func failure(_ otherwise: String, preferringLog: Bool = true) -> ImageError {
        let lines = logTail()
        if isDiskFull || lines.contains(where: { $0.contains("No space left on device") }) {
            return .diskFull(what: what, path: directory)
        }
        return .recipeFailed(what: what, message: preferringLog ? RecipeLog.reason(lines) ?? otherwise : otherwise, log: log)
    }

    /// The log is on the same disk: when that is full, the reason may not have got into it.
    private var isDiskFull: Bool {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return false }
        return Int(clamping: status.f_bavail) < Self.freeBytesMin / max(1, Int(clamping: status.f_frsize))
    }

    private func logTail() -> [Substring] {
        guard let size = try? Files.size(log).bytes, let file = try? OwnedDescriptor.open(log, O_RDONLY) else { return [] }
        var bytes = [UInt8](repeating: 0, count: min(size, Self.logTailMax))
        let start = size - bytes.count
        let count = bytes.withUnsafeMutableBytes { clinux_pread(file.rawValue, $0.baseAddress, $0.count, Int64(start)) }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(whereSeparator: \.isNewline)
    }
}

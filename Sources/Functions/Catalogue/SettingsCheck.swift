/// What settings of functions must fulfil, with the words of Lambda's errors.
enum SettingsCheck {
    static let memoryMiBRange = 64...10240
    static let timeoutRange = 1...900
    static let environmentBytesMax = 4096
    static let textBytesMax = 256
    static let codeBytesMax = 50 << 20
    /// Lambda's range ends at 10,240; an instance's disk has 4 GiB.
    static let scratchMiBRange = 512...3072
    static let tagsMax = 50
    /// What there is: Debian's Python, and programs that bring what they need.
    static let runtimes = ["python3", "python3.11", "provided", "provided.al2", "provided.al2023"]

    /// Refuses settings that no function may have.
    static func check(_ settings: FunctionSettings) throws(CatalogueError) {
        try range("memorySize", settings.memoryMiB, memoryMiBRange)
        try range("timeout", settings.timeoutSeconds, timeoutRange)
        if let concurrency = settings.concurrencyMax { try range("reservedConcurrentExecutions", concurrency, 0...100_000) }
        try checkRuntime(settings)
        if let size = settings.scratchMiB { try range("ephemeralStorage.size", size, scratchMiBRange) }
        if let tags = settings.tags { try check(tags: tags) }
        if let target = settings.deadLetter, !FunctionName.isValid(target) {
            throw invalid("deadLetterConfig.targetArn", String(target.prefix(80)), "Member must name a function")
        }
        if let user = settings.user { try check(user: user) }
        try settings.logging?.check()
        for (name, text) in [
            ("runtime", settings.runtime), ("handler", settings.handler), ("role", settings.role),
            ("description", settings.summary), ("image", settings.image),
        ] {
            guard text.utf8.count <= textBytesMax, !text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
                throw invalid(name, String(text.prefix(40)), "Member must be at most \(textBytesMax) bytes without control characters")
            }
        }
        guard settings.runtime.hasPrefix("provided") || !settings.handler.isEmpty else {
            throw .invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
        }
        try checkEnvironment(settings.environment)
    }

    /// Another version of Python is in no image but one that a client names: it is not silently another one.
    private static func checkRuntime(_ settings: FunctionSettings) throws(CatalogueError) {
        let isOwn = settings.runtime.hasPrefix("python3.") && !settings.image.isEmpty
        guard runtimes.contains(settings.runtime) || isOwn else {
            let reason = "Member must satisfy enum value set: [\(runtimes.joined(separator: ", "))]"
            let isPython = settings.runtime.hasPrefix("python3.")
            throw invalid(
                "runtime", settings.runtime,
                isPython ? "\(reason): Python here is 3.11; name an image with another version (AuroraImage)" : reason)
        }
    }

    private static func check(user: String) throws(CatalogueError) {
        let parts = user.split(separator: ":", omittingEmptySubsequences: false)
        func isName(_ name: Substring) -> Bool {
            (1...32).contains(name.utf8.count) && FunctionName.isValid(name.filter { $0 != "." })
        }
        guard parts.count <= 2, parts.allSatisfy(isName) else {
            throw invalid("auroraUser", String(user.prefix(80)), "Member must be user[:group], each a name or number")
        }
    }

    /// Refuses labels that are too many or too long.
    static func check(tags: [String: String]) throws(CatalogueError) {
        guard tags.count <= tagsMax else { throw .invalid("A function may have \(tagsMax) tags") }
        for (name, value) in tags where !(1...128).contains(name.count) || value.count > 256 {
            throw .invalid("The tag \(name.prefix(40)) is too long: names may have 1 to 128 characters, values 256")
        }
    }

    private static func checkEnvironment(_ environment: [String: String]) throws(CatalogueError) {
        var bytes = 0
        for (name, value) in environment {
            let isName =
                name.utf8.first.map { (65...90).contains($0) || (97...122).contains($0) } ?? false
                && name.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 95 }
            guard isName else { throw invalid("environment", String(name.prefix(40)), "Keys must satisfy [a-zA-Z]([a-zA-Z0-9_])+") }
            guard !name.hasPrefix("AWS_LAMBDA_") else {
                throw .invalid("Lambda was unable to configure your environment variables because \(name) is reserved.")
            }
            guard !value.utf8.contains(0) else { throw invalid("environment", name, "Values must not have a zero byte") }
            bytes += name.utf8.count + value.utf8.count
        }
        guard bytes <= environmentBytesMax else {
            throw .invalid("Lambda was unable to configure your environment variables because they exceed the 4KB limit.")
        }
    }

    private static func range(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws(CatalogueError) {
        guard range.contains(value) else {
            throw invalid(name, "\(value)", "Member must be at least \(range.lowerBound) and at most \(range.upperBound)")
        }
    }

    private static func invalid(_ name: String, _ value: String, _ rule: String) -> CatalogueError {
        .invalid("1 validation error detected: Value '\(value)' at '\(name)' failed to satisfy constraint: \(rule)")
    }
}

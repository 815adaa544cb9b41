import ArgumentParser
import CLinux
import FoundationEssentials
import Functions
import Groups
import Images
import Linux

/// `aurora fn deploy`.
struct FnDeployCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deploy", abstract: "Create a function from a directory or ZIP archive, or change it; waits until it can be invoked.")

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The function's name.") var name: String
    @Argument(help: ArgumentHelp("The code: a directory or a ZIP archive.", valueName: "dir|zip")) var code: String
    @Option(parsing: .unconditional, help: "python3, or provided (the program `bootstrap` of the code).") var runtime = "python3"
    @Option(parsing: .unconditional, help: "What is called: module.function.") var handler = ""
    @Option(parsing: .unconditional, help: ArgumentHelp("Memory of an instance.", valueName: "size")) var memory = "128M"
    @Option(parsing: .unconditional, help: ArgumentHelp("The longest a request may take.", valueName: "seconds")) var timeout = 3
    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Set a variable of the function's environment; repeatable.", valueName: "name=value")) var env: [String] = []
    @Option(parsing: .unconditional, help: "The image to use instead of the runtime's.") var image = ""
    @Option(
        parsing: .unconditional,
        help:
            "What keeps its processes apart from their kernel in a pv guest: shared (nothing) or strict (slower); the image's, else shared."
    )
    var isolation: IsolationSetting?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Who the code runs as; root, for what needs that. Default: sbx_user1051.", valueName: "user[:group]"))
    var user = ""
    @Option(parsing: .unconditional, help: ArgumentHelp("Requests served at once, at most.", valueName: "count")) var concurrency: Int?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Who is given the asynchronous requests that failed for good; \"\": nobody.", valueName: "function"))
    var deadLetter: String?
    @Flag(help: "Take the snapshot at the first invocation/next, without the runtime's hooks.") var noSnapStart = false
    @Flag(name: [.short, .long], help: "Print nothing but errors.") var quiet = false
    /// A build with a new runtime image takes minutes.
    private static let buildSecondsMax = 1800

    /// Create and update, in Lambda's form.
    private struct Order: Encodable {
        struct Code: Encodable { let ZipFile: String }
        struct Variables: Encodable { let Variables: [String: String] }
        struct SnapStart: Encodable { let ApplyOn: String }
        struct DeadLetter: Encodable { let TargetArn: String }
        var FunctionName: String?
        var Runtime: String?
        var Handler: String?
        var Role: String?
        var Code: Code?
        var ZipFile: String?
        var MemorySize: Int?
        var Timeout: Int?
        var Environment: Variables?
        var SnapStart: SnapStart?
        var AuroraImage: String?
        var AuroraIsolation: String?
        var AuroraUser: String?
        var DeadLetterConfig: DeadLetter?
    }

    func validate() throws {
        if runtime.hasPrefix("python3"), handler.isEmpty { throw ValidationError("The runtime \(runtime) needs --handler module.function") }
    }

    func run() throws {
        let path = try GatewayOptions.path(name)
        let zip = Data(try FnArchive.read(code)).base64EncodedString()
        var order = try settings()
        if try gateway.client.send("GET", path).status == 404 {
            order.FunctionName = name
            order.Role = "arn:aws:iam::000000000000:role/aurora"
            order.Code = Order.Code(ZipFile: zip)
            try send("POST", "/2015-03-31/functions", order)
        } else {
            // Settings and code are one change, which is built once.
            order.ZipFile = zip
            try send("PUT", "\(path)/code", order)
        }
        let isWatched = !quiet && Terminal.isTerminal(2)
        let function = try ProgressReport.during(isQuiet: !isWatched) { try wait($0) }
        if let concurrency {
            let body = #"{"ReservedConcurrentExecutions":\#(concurrency)}"#
            _ = try gateway.send("PUT", "/2017-10-31/functions/\(name)/concurrency", body: Array(body.utf8))
        }
        if !quiet {
            let store = function.storeBytes.map { ", \(MemorySize.format($0)) in the store" } ?? ""
            print("\(name): \(function.state)\(store)")
        }
    }

    /// Sends the change; while too many wait to be built, again and again.
    private func send(_ method: String, _ path: String, _ order: Order) throws {
        let body = Array(try JSONEncoder().encode(order))
        for attempt in 1... {
            do {
                _ = try gateway.send(method, path, body: body, seconds: 300)
                return
            } catch let error as GatewayRefusal where error.status == 429 && attempt < FnDeployCommand.buildSecondsMax {
                sleep(1)
            }
        }
    }

    private func settings() throws -> Order {
        var variables: [String: String] = [:]
        for text in env {
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
                throw ValidationError("--env \(text.prefix(40)) is not NAME=VALUE")
            }
            variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        let bytes = try MemorySize.parse(memory)
        return Order(
            Runtime: runtime, Handler: handler, MemorySize: bytes >> 20, Timeout: timeout, Environment: .init(Variables: variables),
            SnapStart: .init(ApplyOn: noSnapStart ? "None" : "PublishedVersions"), AuroraImage: image, AuroraIsolation: isolation?.rawValue,
            AuroraUser: user,
            DeadLetterConfig: deadLetter.map { .init(TargetArn: $0) })
    }

    private func wait(_ progress: BuildProgress) throws -> StatusReport.Function {
        var told = ""
        for _ in 0..<FnDeployCommand.buildSecondsMax * 10 {
            let function = try gateway.status(of: name)
            switch function.updateStatus {
            case "Successful": return function
            case "Failed": throw GroupError(.guest, function.reason ?? "The function was not built", remedy: "See: aurora fn logs \(name)")
            default:
                let words = function.step == nil ? "waiting for other builds" : function.step?.words ?? told
                if words != told { progress(.step(words)) }
                told = words
                if case .written(let bytes) = function.step { progress(.written(bytes)) }
                usleep(100_000)
            }
        }
        throw GroupError(.host, "The function was not built within \(FnDeployCommand.buildSecondsMax) s")
    }
}

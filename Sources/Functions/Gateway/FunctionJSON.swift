/// `FunctionConfiguration` of Lambda.
struct ConfigurationJSON: Encodable {
    struct Variables: Encodable {
        let variables: [String: String]
        enum CodingKeys: String, CodingKey { case variables = "Variables" }
    }
    struct SnapStart: Encodable {
        let applyOn: String
        let optimizationStatus: String
        enum CodingKeys: String, CodingKey { case applyOn = "ApplyOn", optimizationStatus = "OptimizationStatus" }
    }

    let name: String
    let resourceName: String
    let runtime: String
    let role: String
    let handler: String
    let codeSize: Int
    let summary: String
    let timeout: Int
    let memorySize: Int
    let modifiedAt: String
    let codeDigest: String
    let version = "$LATEST"
    let environment: Variables?
    let revision: String
    let state: String
    let stateReason: String?
    let stateReasonCode: String?
    let updateStatus: String
    let updateReason: String?
    let updateReasonCode: String?
    let packageType = "Zip"
    let architectures = ["x86_64"]
    let snapStart: SnapStart
    let logging: LoggingJSON
    let storage: StorageJSON
    let tenancy: TenancyJSON?
    let isolation: String?
    let deadLetter: DeadLetterJSON?

    enum CodingKeys: String, CodingKey {
        case name = "FunctionName", resourceName = "FunctionArn", runtime = "Runtime", role = "Role", handler = "Handler"
        case codeSize = "CodeSize", summary = "Description", timeout = "Timeout", memorySize = "MemorySize", modifiedAt = "LastModified"
        case codeDigest = "CodeSha256", version = "Version", environment = "Environment", revision = "RevisionId", state = "State"
        case stateReason = "StateReason", stateReasonCode = "StateReasonCode", updateStatus = "LastUpdateStatus"
        case updateReason = "LastUpdateStatusReason", updateReasonCode = "LastUpdateStatusReasonCode", packageType = "PackageType"
        case architectures = "Architectures", snapStart = "SnapStart", logging = "LoggingConfig", storage = "EphemeralStorage"
        case tenancy = "TenancyConfig", deadLetter = "DeadLetterConfig", isolation = "AuroraIsolation"
    }

    init(_ record: FunctionRecord) {
        name = record.name
        resourceName = record.resourceName
        runtime = record.settings.runtime
        role = record.settings.role
        handler = record.settings.handler
        codeSize = record.codeBytes
        summary = record.settings.summary
        timeout = record.settings.timeoutSeconds
        memorySize = record.settings.memoryMiB
        modifiedAt = record.modifiedAt
        codeDigest = record.codeDigest
        environment = record.settings.environment.isEmpty ? nil : Variables(variables: record.settings.environment)
        revision = record.revision
        state = record.state.rawValue
        updateStatus = record.updateStatus.rawValue
        switch record.state {
        case .pending: (stateReason, stateReasonCode) = ("The function is being created.", "Creating")
        case .failed: (stateReason, stateReasonCode) = (record.reason, "FunctionError")
        case .active: (stateReason, stateReasonCode) = (nil, nil)
        }
        let isFailed = record.updateStatus == .failed
        updateReason = isFailed ? record.reason : nil
        updateReasonCode = isFailed ? "FunctionError" : nil
        snapStart = SnapStart(
            applyOn: record.settings.isSnapStart ? "PublishedVersions" : "None",
            optimizationStatus: record.state == .active ? "On" : "Off")
        logging = LoggingJSON(record)
        storage = StorageJSON(size: record.settings.scratchMiB ?? FunctionSettings.scratchMiBDefault)
        tenancy = record.settings.isolatesTenants == true ? TenancyJSON(mode: TenancyJSON.each) : nil
        isolation = record.settings.isStrict.map { $0 ? "strict" : "shared" }
        deadLetter = record.settings.deadLetter.map { DeadLetterJSON(target: FunctionName.resourceName($0)) }
    }
}

/// `LoggingConfig`.
struct LoggingJSON: Codable {
    var format: String?
    var application: String?
    var system: String?
    var group: String?
    enum CodingKeys: String, CodingKey {
        case format = "LogFormat", application = "ApplicationLogLevel", system = "SystemLogLevel", group = "LogGroup"
    }

    init(_ record: FunctionRecord) {
        let logging = record.settings.logging ?? LoggingSettings()
        format = logging.isJSON ? "JSON" : "Text"
        application = logging.isJSON ? logging.applicationLevel ?? "INFO" : nil
        system = logging.isJSON ? logging.systemLevel ?? "INFO" : nil
        group = logging.group ?? "/aws/lambda/\(record.name)"
    }

    /// The settings that are meant, on top of those there are.
    func settings(over before: LoggingSettings?) -> LoggingSettings {
        var settings = before ?? LoggingSettings()
        if let format { settings.isJSON = format == "JSON" }
        if let application { settings.applicationLevel = application }
        if let system { settings.systemLevel = system }
        if !settings.isJSON, application == nil, system == nil { (settings.applicationLevel, settings.systemLevel) = (nil, nil) }
        if let group { settings.group = group }
        return settings
    }
}

/// `EphemeralStorage`.
struct StorageJSON: Codable {
    var size: Int?
    enum CodingKeys: String, CodingKey { case size = "Size" }
}

/// `TenancyConfig`.
struct TenancyJSON: Codable {
    static let each = "PER_TENANT"
    var mode: String?
    enum CodingKeys: String, CodingKey { case mode = "TenantIsolationMode" }
}

/// `DeadLetterConfig`.
struct DeadLetterJSON: Codable {
    var target: String?
    enum CodingKeys: String, CodingKey { case target = "TargetArn" }

    /// The function that is meant; nil: none, the setting is taken away.
    ///
    /// - Throws: `LambdaError.invalid` for what can be no target here.
    func function() throws(LambdaError) -> String? {
        guard let target, !target.isEmpty else { return nil }
        let parts = target.split(separator: ":", omittingEmptySubsequences: false)
        if parts.count > 2, parts[0] == "arn", ["sqs", "sns"].contains(parts[2]) {
            throw .invalid(
                "DeadLetterConfig.TargetArn \(target.prefix(80)) is a queue or topic, which there are none of here: name a function of "
                    + "this gateway, or none: what fails is kept then (aurora fn events)")
        }
        guard let reference = FunctionReference(target), reference.qualifier ?? "$LATEST" == "$LATEST" else {
            throw .invalid("DeadLetterConfig.TargetArn \(target.prefix(80)) names no function: \(FunctionName.resourceName("NAME"))")
        }
        return reference.name
    }
}

/// What `CreateFunction` sends; other names are refused by `ForeignSettings`.
struct CreateRequest: Decodable {
    struct Code: Decodable {
        var zipFile: String?
        var s3Bucket: String?
        var imageURI: String?
        enum CodingKeys: String, CodingKey { case zipFile = "ZipFile", s3Bucket = "S3Bucket", imageURI = "ImageUri" }
    }
    var name: String
    var code: Code
    var settings: SettingsRequest

    enum CodingKeys: String, CodingKey { case name = "FunctionName", code = "Code" }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        name = try values.decode(String.self, forKey: .name)
        code = try values.decode(Code.self, forKey: .code)
        settings = try SettingsRequest(from: decoder)
    }
}

/// What `UpdateFunctionCode` sends; other names are refused by `ForeignSettings`.
struct UpdateCodeRequest: Decodable {
    var zipFile: String?
    var s3Bucket: String?
    var imageURI: String?
    var dryRun: Bool?
    var revision: String?
    /// Aurora's own: settings that change with the code.
    var settings: SettingsRequest

    enum CodingKeys: String, CodingKey {
        case zipFile = "ZipFile", s3Bucket = "S3Bucket", imageURI = "ImageUri", dryRun = "DryRun", revision = "RevisionId"
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        zipFile = try values.decodeIfPresent(String.self, forKey: .zipFile)
        s3Bucket = try values.decodeIfPresent(String.self, forKey: .s3Bucket)
        imageURI = try values.decodeIfPresent(String.self, forKey: .imageURI)
        dryRun = try values.decodeIfPresent(Bool.self, forKey: .dryRun)
        revision = try values.decodeIfPresent(String.self, forKey: .revision)
        settings = try SettingsRequest(from: decoder)
    }
}

/// The settings in `CreateFunction` and `UpdateFunctionConfiguration`.
struct SettingsRequest: Decodable {
    struct Environment: Decodable {
        var variables: [String: String]?
        enum CodingKeys: String, CodingKey { case variables = "Variables" }
    }
    struct SnapStart: Decodable {
        var applyOn: String?
        enum CodingKeys: String, CodingKey { case applyOn = "ApplyOn" }
    }
    var runtime: String?
    var handler: String?
    var role: String?
    var summary: String?
    var timeout: Int?
    var memorySize: Int?
    var environment: Environment?
    var packageType: String?
    var architectures: [String]?
    var snapStart: SnapStart?
    var revision: String?
    /// Aurora's own: the image to use instead of the runtime's.
    var image: String?
    /// Aurora's own: what keeps its processes apart from their kernel.
    var isolation: String?
    /// Aurora's own: who the function runs as in its guest; empty: as it usually does.
    var user: String?
    var tags: [String: String]?
    var logging: LoggingJSON?
    var storage: StorageJSON?
    var tenancy: TenancyJSON?
    var deadLetter: DeadLetterJSON?

    /// The names of all operations that set something.
    static let names: Set<String> = [
        "Runtime", "Handler", "Role", "Description", "Timeout", "MemorySize", "Environment", "PackageType", "Architectures", "SnapStart",
        "RevisionId", "AuroraImage", "LoggingConfig", "EphemeralStorage", "FunctionName",
        "DeadLetterConfig", "AuroraUser", "AuroraIsolation",
    ]
    /// What can be set when a function is created only.
    static let namesOfCreation: Set<String> = ["Code", "Tags", "TenancyConfig"]
    /// What belongs to new code.
    static let namesOfCode: Set<String> = ["ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri", "DryRun"]

    enum CodingKeys: String, CodingKey {
        case runtime = "Runtime", handler = "Handler", role = "Role", summary = "Description", timeout = "Timeout"
        case memorySize = "MemorySize", environment = "Environment", packageType = "PackageType", architectures = "Architectures"
        case snapStart = "SnapStart", revision = "RevisionId", image = "AuroraImage", user = "AuroraUser"
        case isolation = "AuroraIsolation"
        case tags = "Tags", logging = "LoggingConfig", storage = "EphemeralStorage", tenancy = "TenancyConfig"
        case deadLetter = "DeadLetterConfig"
    }

    /// Refuses what Aurora does not have rather than to ignore it.
    func check() throws(LambdaError) {
        if let packageType, packageType != "Zip" { throw .invalid("PackageType \(packageType.prefix(20)) is not supported: use Zip") }
        if let architectures, architectures != ["x86_64"] { throw .invalid("Architectures must be [x86_64]") }
        if let applyOn = snapStart?.applyOn, !["None", "PublishedVersions"].contains(applyOn) {
            throw .invalid("SnapStart.ApplyOn must be None or PublishedVersions")
        }
        if let format = logging?.format, !["JSON", "Text"].contains(format) {
            throw .invalid("LoggingConfig.LogFormat must be JSON or Text")
        }
        if let isolation, !["shared", "strict"].contains(isolation) { throw .invalid("AuroraIsolation must be shared or strict") }
        if let mode = tenancy?.mode, mode != TenancyJSON.each {
            throw .invalid("TenancyConfig.TenantIsolationMode must be \(TenancyJSON.each)")
        }
        _ = try deadLetter?.function()
    }

    /// Changes the settings that are named.
    func apply(to settings: inout FunctionSettings) {
        if let runtime { settings.runtime = runtime }
        if let handler { settings.handler = handler }
        if let role { settings.role = role }
        if let summary { settings.summary = summary }
        if let timeout { settings.timeoutSeconds = timeout }
        if let memorySize { settings.memoryMiB = memorySize }
        if let variables = environment?.variables { settings.environment = variables }
        if let applyOn = snapStart?.applyOn { settings.isSnapStart = applyOn != "None" }
        if let image { settings.image = image }
        if let isolation { settings.isStrict = isolation == "strict" }
        if let user { settings.user = user.isEmpty ? nil : user }
        if let tags { settings.tags = tags.isEmpty ? nil : tags }
        if let logging { settings.logging = logging.settings(over: settings.logging) }
        if let size = storage?.size { settings.scratchMiB = size }
        if let deadLetter { settings.deadLetter = try? deadLetter.function() }
        if tenancy?.mode != nil { settings.isolatesTenants = true }
    }
}

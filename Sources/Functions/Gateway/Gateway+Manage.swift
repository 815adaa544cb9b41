internal import FoundationEssentials
internal import Logging
internal import NIOHTTP1

extension Gateway {
    /// `CreateFunction`.
    func createFunction(_ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let body = try JSONBody.decode(CreateRequest.self, request.body)
        try JSONBody.decode(ForeignSettings.self, request.body).check(SettingsRequest.names.union(SettingsRequest.namesOfCreation))
        try body.settings.check()
        guard let reference = FunctionReference(body.name), reference.qualifier == nil else {
            throw .invalid(
                "1 validation error detected: Value '\(body.name.prefix(170))' at 'functionName' failed to satisfy constraint: "
                    + "letters, digits, - and _, at most 64")
        }
        try checkDeadLetter(body.settings, of: reference.name)
        let code = try archive(zipFile: body.code.zipFile, s3Bucket: body.code.s3Bucket, imageURI: body.code.imageURI)
        var settings = FunctionSettings(runtime: "")
        body.settings.apply(to: &settings)
        let wanted = settings
        let place = try deployments.reserve()
        let record = try await change { () throws(CatalogueError) in
            try self.catalogue.create(reference.name, wanted, code: code)
        }
        logger.info("function created", metadata: ["function": "\(record.name)", "revision": "\(record.revision)"])
        deployments.begin(record, place)
        return GatewayResponse(status: 201, body: JSONBody.encode(ConfigurationJSON(record)))
    }

    /// `UpdateFunctionCode`; beyond Lambda's, settings may come along, as one change.
    func updateCode(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let name = try record(text, request).name
        let body = try JSONBody.decode(UpdateCodeRequest.self, request.body)
        try JSONBody.decode(ForeignSettings.self, request.body).check(SettingsRequest.names.union(SettingsRequest.namesOfCode))
        try body.settings.check()
        try checkDeadLetter(body.settings, of: name)
        let code = try archive(zipFile: body.zipFile, s3Bucket: body.s3Bucket, imageURI: body.imageURI)
        if body.dryRun == true { return try getConfiguration(text, request) }
        return try await update(name) { () throws(CatalogueError) in
            try self.catalogue.update(name, revision: body.revision, code: code) { body.settings.apply(to: &$0) }
        }
    }

    /// `UpdateFunctionConfiguration`.
    func updateConfiguration(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let name = try record(text, request).name
        let body = try JSONBody.decode(SettingsRequest.self, request.body)
        try JSONBody.decode(ForeignSettings.self, request.body).check(SettingsRequest.names)
        try body.check()
        try checkDeadLetter(body, of: name)
        return try await update(name) { () throws(CatalogueError) in
            try self.catalogue.update(name, revision: body.revision) { body.apply(to: &$0) }
        }
    }

    private func update(
        _ name: String, _ body: @escaping @Sendable () throws(CatalogueError) -> FunctionRecord
    ) async throws(LambdaError) -> GatewayResponse {
        let place = try deployments.reserve()
        let record = try await change(body)
        logger.info("function changed", metadata: ["function": "\(name)", "revision": "\(record.revision)"])
        deployments.begin(record, place)
        return GatewayResponse(status: 200, body: JSONBody.encode(ConfigurationJSON(record)))
    }

    /// `DeleteFunction`.
    func deleteFunction(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let name = try record(text, request).name
        try await change { () throws(CatalogueError) in try self.catalogue.remove(name) }
        logger.info("function removed", metadata: ["function": "\(name)"])
        invoker.forget(name)
        metrics.forget(name)
        deployments.remove(name)
        return GatewayResponse(status: 204)
    }

    /// `GetFunction`.
    func getFunction(_ text: String, _ request: GatewayRequest) throws(LambdaError) -> GatewayResponse {
        struct Code: Encodable {
            let repository = "Aurora"
            let location: String
            enum CodingKeys: String, CodingKey { case repository = "RepositoryType", location = "Location" }
        }
        struct Body: Encodable {
            let configuration: ConfigurationJSON
            let code: Code
            let concurrency: ConcurrencyJSON?
            let tags: [String: String]?
            enum CodingKeys: String, CodingKey {
                case configuration = "Configuration", code = "Code", concurrency = "Concurrency", tags = "Tags"
            }
        }
        let record = try record(text, request)
        let location = "http://\(request.header("host") ?? "localhost")/aurora/functions/\(record.name)/code"
        let body = Body(
            configuration: ConfigurationJSON(record), code: Code(location: location),
            concurrency: record.settings.concurrencyMax.map { ConcurrencyJSON(reserved: $0) }, tags: record.settings.tags)
        return GatewayResponse(status: 200, body: JSONBody.encode(body))
    }

    /// `GetFunctionConfiguration`.
    func getConfiguration(_ text: String, _ request: GatewayRequest) throws(LambdaError) -> GatewayResponse {
        GatewayResponse(status: 200, body: JSONBody.encode(ConfigurationJSON(try record(text, request))))
    }

    /// `ListFunctions`: by name; the marker is the last name of the page before, in base64.
    func listFunctions(_ request: GatewayRequest) throws(LambdaError) -> GatewayResponse {
        struct Body: Encodable {
            let functions: [ConfigurationJSON]
            let next: String?
            enum CodingKeys: String, CodingKey { case functions = "Functions", next = "NextMarker" }
        }
        var count = 50
        if let text = request.query["MaxItems"] {
            guard let number = Int(text), (1...10_000).contains(number) else { throw .invalid("Value at 'maxItems' must be 1 to 10000") }
            count = min(number, 50)
        }
        var after = ""
        if let marker = request.query["Marker"], !marker.isEmpty {
            guard let data = Data(base64Encoded: marker), data.count <= FunctionName.bytesMax else {
                throw .invalid("Value at 'marker' is not one that ListFunctions gave")
            }
            after = String(decoding: data, as: UTF8.self)
        }
        let rest = catalogue.all.drop { $0.name <= after }
        let page = rest.prefix(count)
        let next = rest.count > page.count ? page.last.map { Data($0.name.utf8).base64EncodedString() } : nil
        return GatewayResponse(status: 200, body: JSONBody.encode(Body(functions: page.map { ConfigurationJSON($0) }, next: next)))
    }

    /// `ListVersionsByFunction`: there is `$LATEST` only.
    func listVersions(_ text: String) throws(LambdaError) -> GatewayResponse {
        struct Body: Encodable {
            let versions: [ConfigurationJSON]
            enum CodingKeys: String, CodingKey { case versions = "Versions" }
        }
        guard let reference = FunctionReference(text), let record = catalogue[reference.name] else { throw .notFound(text) }
        return GatewayResponse(status: 200, body: JSONBody.encode(Body(versions: [ConfigurationJSON(record)])))
    }

    /// `PutFunctionConcurrency`, `GetFunctionConcurrency`, `DeleteFunctionConcurrency`.
    func concurrency(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let record = try record(text, request)
        if request.method == .GET {
            guard let reserved = record.settings.concurrencyMax else { return GatewayResponse(status: 200, body: Array("{}".utf8)) }
            return GatewayResponse(status: 200, body: JSONBody.encode(ConcurrencyJSON(reserved: reserved)))
        }
        var reserved: Int?
        if request.method == .PUT {
            let number = try JSONBody.decode(ConcurrencyJSON.self, request.body).reserved
            guard (0...100_000).contains(number) else { throw .invalid("Value at 'reservedConcurrentExecutions' must be 0 to 100000") }
            reserved = number
        }
        let wanted = reserved
        try await change { () throws(CatalogueError) in
            try self.catalogue.note(record.name, revision: record.revision) { $0.settings.concurrencyMax = wanted }
        }
        guard let reserved else { return GatewayResponse(status: 204) }
        return GatewayResponse(status: 200, body: JSONBody.encode(ConcurrencyJSON(reserved: reserved)))
    }

    /// `GetAccountSettings`.
    func accountSettings() -> GatewayResponse {
        let concurrency = configuration.invoker.concurrencyMax
        let count = catalogue.all.count
        let bytes = catalogue.all.reduce(0) { $0 + $1.codeBytes }
        let limit =
            "{\"CodeSizeUnzipped\":262144000,\"CodeSizeZipped\":52428800,\"ConcurrentExecutions\":\(concurrency),"
            + "\"TotalCodeSize\":\(Catalogue.functionsMax * SettingsCheck.codeBytesMax),\"UnreservedConcurrentExecutions\":\(concurrency)}"
        let text = "{\"AccountLimit\":\(limit),\"AccountUsage\":{\"FunctionCount\":\(count),\"TotalCodeSize\":\(bytes)}}"
        return GatewayResponse(status: 200, body: Array(text.utf8))
    }

    /// Refuses a target of dead letters that is not there, or is the function itself.
    private func checkDeadLetter(_ settings: SettingsRequest, of name: String) throws(LambdaError) {
        guard let target = try settings.deadLetter?.function() else { return }
        guard target != name else { throw .invalid("DeadLetterConfig.TargetArn is the function itself, which would fail again") }
        guard catalogue[target] != nil else {
            throw .invalid("DeadLetterConfig.TargetArn: there is no function \(target)")
        }
    }

    private func archive(zipFile: String?, s3Bucket: String?, imageURI: String?) throws(LambdaError) -> [UInt8] {
        if imageURI != nil { throw .invalid("Code.ImageUri is not supported: import the image and name it with AuroraImage") }
        if s3Bucket != nil { throw .invalid("Code.S3Bucket is not supported: send the code as ZipFile") }
        guard let zipFile else { throw .invalid("Please provide a source for function code.") }
        guard let data = Data(base64Encoded: zipFile) else { throw .invalid("ZipFile is not base64") }
        let bytes = [UInt8](data)
        // Its structure alone: nothing on this side of a machine unpacks what a stranger sends.
        do throws(ZipArchive.Refusal) { _ = try ZipArchive(bytes) } catch {
            throw .invalid("Could not unzip uploaded file. Please check your file, then try to upload again. (\(error))")
        }
        return bytes
    }

    @discardableResult
    func change<Value: Sendable>(
        _ body: @escaping @Sendable () throws(CatalogueError) -> Value
    ) async throws(LambdaError) -> Value {
        do throws(CatalogueError) { return try await files.run(body) } catch { throw LambdaError(error) }
    }
}

/// `ReservedConcurrentExecutions`.
struct ConcurrencyJSON: Codable {
    let reserved: Int
    enum CodingKeys: String, CodingKey { case reserved = "ReservedConcurrentExecutions" }
}

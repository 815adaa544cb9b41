internal import CLinux
internal import FoundationEssentials
internal import Linux

extension Catalogue {
    /// What serves of each function of a directory, whoever holds the catalogue.
    ///
    /// A damaged record is an error: what its function needs is not known.
    ///
    /// - Throws: `CatalogueError`.
    public static func deployed(path: String) throws(CatalogueError) -> [DeployedFunction] {
        guard clinux_access(path, F_OK) == 0 else { return [] }
        var records: [(name: String, bytes: [UInt8])] = []
        do throws(SystemError) {
            for name in try DurableFile.names(in: path) where FunctionName.isValid(name) {
                // One that has just been removed has no record any more.
                guard let bytes = try DurableFile.read("\(path)/\(name)/\(recordFile)", bytesMax: recordBytesMax) else { continue }
                records.append((name, bytes))
            }
        } catch { throw .host("\(error)") }
        var functions: [DeployedFunction] = []
        for (name, bytes) in records {
            switch decode(bytes, name: name) {
            case .success(let record): if let function = record.deployed { functions.append(function) }
            case .failure(let error): throw .damaged("\(path)/\(name)/\(recordFile): \(error)")
            }
        }
        return functions
    }

    /// Reads what is kept of a function, and removes what an interrupted change left.
    static func load(_ name: String, in directory: String) -> Result<FunctionRecord, CatalogueError> {
        let file = "\(directory)/\(recordFile)"
        do throws(SystemError) {
            guard let bytes = try DurableFile.read(file, bytesMax: recordBytesMax) else {
                return .failure(.damaged("\(file) is missing: remove \(directory), and deploy the function again."))
            }
            let decoded = decode(bytes, name: name)
            guard case .success(let record) = decoded else {
                return decoded.mapError { .damaged("\(file): \($0)") }
            }
            for other in try DurableFile.names(in: directory)
            where other.hasPrefix("code-") && other != record.codeFile && other != record.before?.codeFile || other.hasSuffix(".new") {
                _ = clinux_unlink("\(directory)/\(other)")
            }
            guard clinux_access("\(directory)/\(record.codeFile)", R_OK) == 0 else {
                return .failure(.damaged("\(directory)/\(record.codeFile) is missing: remove \(directory), and deploy the function again."))
            }
            return .success(record)
        } catch {
            return .failure(.host("\(error)"))
        }
    }

    /// Reads a record's bytes, which may be anything.
    static func decode(_ bytes: [UInt8], name: String) -> Result<FunctionRecord, CatalogueError> {
        if let fault = JSONText.fault(in: bytes) { return .failure(.damaged("not JSON: \(fault)")) }
        let record: FunctionRecord
        do {
            record = try JSONDecoder().decode(FunctionRecord.self, from: Data(bytes))
        } catch {
            return .failure(.damaged("not a function's record: \(JSONFault.summary(of: error))"))
        }
        guard record.version == FunctionRecord.currentVersion else {
            return .failure(.damaged("has version \(record.version), this program knows \(FunctionRecord.currentVersion)"))
        }
        let files = [record.codeFile] + (record.before.map { [$0.codeFile] } ?? [])
        guard record.name == name, files.allSatisfy({ $0.hasPrefix("code-") && !$0.contains("/") }), record.codeBytes >= 0,
            record.deployed.map({ $0.name == name && $0.memoryBytes > 0 && $0.timeoutSeconds > 0 }) ?? true
        else { return .failure(.damaged("is of another function, or names a file elsewhere")) }
        do throws(CatalogueError) { try SettingsCheck.check(record.settings) } catch { return .failure(error) }
        return .success(record)
    }
}

/// What is wrong with JSON, in a few words.
enum JSONFault {
    static func summary(of error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        func place(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? "" : " at \(path.prefix(80))"
        }
        return switch error {
        case .typeMismatch(let type, let context): "\(type) expected\(place(context))"
        case .valueNotFound(let type, let context): "\(type) missing\(place(context))"
        case .keyNotFound(let key, let context): "no \(key.stringValue)\(place(context))"
        case .dataCorrupted(let context): "\(context.debugDescription.prefix(120))\(place(context))"
        @unknown default: "not the expected JSON"
        }
    }
}

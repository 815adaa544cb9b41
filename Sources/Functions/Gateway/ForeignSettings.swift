/// What a client sets that Lambda has and Aurora has not: refused by name, rather than dropped without a word.
struct ForeignSettings: Decodable {
    /// A value of any kind, of which only is asked whether it says anything.
    indirect enum Value: Decodable {
        case nothing
        case text(String)
        case list([Value])
        case object([String: Value])
        case other

        init(from decoder: any Decoder) throws {
            if let object = try? decoder.container(keyedBy: AnyKey.self) {
                var values: [String: Value] = [:]
                for key in object.allKeys { values[key.stringValue] = try object.decode(Value.self, forKey: key) }
                self = .object(values)
            } else if var list = try? decoder.unkeyedContainer() {
                var values: [Value] = []
                while !list.isAtEnd { values.append(try list.decode(Value.self)) }
                self = .list(values)
            } else {
                let single = try decoder.singleValueContainer()
                if single.decodeNil() || (try? single.decode(Bool.self)) == false {
                    self = .nothing
                } else if let text = try? single.decode(String.self) {
                    self = .text(text)
                } else {
                    self = .other
                }
            }
        }

        /// Whether it is what Lambda takes for granted when nothing is said.
        func isDefault(_ texts: Set<String>) -> Bool {
            switch self {
            case .nothing: true
            case .text(let text): text.isEmpty || texts.contains(text)
            case .list(let values): values.allSatisfy { $0.isDefault(texts) }
            case .object(let values): values.values.allSatisfy { $0.isDefault(texts) }
            case .other: false
            }
        }
    }

    private struct AnyKey: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { return nil }
    }

    /// Texts that mean the usual case.
    private static let defaults: [String: Set<String>] = ["TracingConfig": ["PassThrough"]]
    /// What to do instead.
    private static let remedies: [String: String] = [
        "Layers": "put their files into the code", "ImageConfig": "import the image, and name it with AuroraImage",
        "VpcConfig": "functions have no network", "FileSystemConfigs": "functions have no network",
        "Publish": "there is $LATEST only", "PublishTo": "there is $LATEST only",
    ]

    let values: [String: Value]

    init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: AnyKey.self)
        var values: [String: Value] = [:]
        for key in object.allKeys { values[key.stringValue] = try object.decode(Value.self, forKey: key) }
        self.values = values
    }

    /// Refuses what is not among the names that are honoured.
    func check(_ honoured: Set<String>) throws(LambdaError) {
        for (name, value) in values.sorted(by: { $0.key < $1.key }) where !honoured.contains(name) {
            guard value.isDefault(ForeignSettings.defaults[name] ?? []) else {
                let remedy = ForeignSettings.remedies[name].map { ": \($0)" } ?? ""
                throw .invalid("\(name.prefix(64)) is not supported here\(remedy)")
            }
        }
    }
}

export declare const hasRedis: boolean;
export declare class Redis {
  static start(): Promise<Redis>;
  readonly port: number;
  readonly url: string;
  restart(): Promise<void>;
  kill(): Promise<void>;
  end(): Promise<void>;
}

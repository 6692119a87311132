with

source as (

    select * from {{ source('pairs', 'product_pairs') }}

),

renamed as (

    select
        left_product_key,
        right_product_key,
        copurchase_count::bigint as copurchase_count
    from source

)

select * from renamed

with

source as (

    select * from {{ source('state', 'product_pairs') }}

),

renamed as (

    select
        left_product_number,
        right_product_number,
        copurchase_count::bigint as copurchase_count
    from source

)

select * from renamed
